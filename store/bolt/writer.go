package bolt

import (
	"bytes"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// item is a copy of an entry's durable part, for a transaction that is written
// while the entry moves on.
type item struct {
	e         *entry
	changes   int
	header    header
	raw       []byte
	sched     schedule
	state     outbox.State
	gone      bool
	reason    outbox.Reason
	home      home
	homeWhen  int64
	rewritten bool
	dirty     bool
	dirtyAt   wal.Position
	damaged   home
	unsure    bool
	spent     int64

	holdsUnique, holdsLatest bool // its Unique key, its LatestOnly key, as memory knows
	lostUnique, lostLatest   bool // and whether it has given them free since: see catchUp
}

func (e *entry) snapshot() item {
	return item{
		e: e, changes: e.changes, header: e.header, raw: e.raw, sched: e.sched, state: e.state, gone: e.gone,
		reason: e.reason, home: e.home, homeWhen: e.homeWhen, rewritten: e.rewritten, dirty: e.dirtyAt != 0, dirtyAt: e.dirtyAt,
		damaged: e.damaged, unsure: e.unsure, spent: e.spent,
	}
}

// target is where the task belongs.
func (it *item) target() home {
	switch {
	case it.gone:
		return homeNone
	case it.state == outbox.Dead && it.damaged != homeNone:
		return homeDamaged
	case it.state == outbox.Dead:
		return homeDead
	}
	return homeTasks
}

// writer brings the database's buckets up to date, in one transaction.
type writer struct {
	b      buckets
	keys   map[string]bool // ordering keys whose head may have changed
	due    lister
	listed []place            // what was put into the due bucket
	delta  usage              // what was put and deleted
	unsure map[outbox.ID]bool // damaged tasks that may still be in the indexes
	now    int64              // on the store's clock; 0 where nothing depends on it
	spends int                // Unique keys that were put into the spent bucket

	unsureDead map[outbox.ID]bool // damaged dead letters that may still be in the parked bucket

	recount    bool  // the sums have to be counted anew,
	correction usage // and so much was wrong
}

// newWriter also has bbolt fill the pages of buckets that grow at their end, which
// halves what a backlog costs on disk.
func newWriter(b buckets) *writer {
	b.tasks.FillPercent = 0.9
	b.due.FillPercent = 0.9
	return &writer{b: b, due: lister{due: b.due}, keys: map[string]bool{}, unsure: map[outbox.ID]bool{}, unsureDead: map[outbox.ID]bool{}}
}

// put makes the database agree with the item, wherever it had the task before.
func (w *writer) put(it *item) error {
	id := it.header.id[:]
	w.delta.move(&it.header, it.home.counts(), it.target().counts())
	w.recount = w.recount || it.damaged != homeNone
	it.homeWhen = w.listedAt(it)
	if it.home == homeTasks && it.target() != homeTasks {
		if err := w.removeWaiting(it); err != nil {
			return err
		}
	}
	if it.home == homeDead && it.target() != homeDead {
		if err := w.b.dead.Delete(id); err != nil {
			return err
		}
	}
	if it.home == homeDamaged && it.target() != homeDamaged {
		if err := w.b.damaged.Delete(id); err != nil {
			return err
		}
	}
	if err := w.keepParked(it); err != nil {
		return err
	}
	if it.gone && it.spent > w.now {
		if err := w.spend(it.header.unique, it.spent, it.header.id); err != nil {
			return err
		}
	}
	switch it.target() {
	case homeDamaged:
		return w.keepDamaged(it)
	case homeTasks:
		return w.putWaiting(it)
	case homeDead:
		return w.b.dead.Put(id, withCRC(id, appendDead(nil, it.raw, &it.sched, it.reason)))
	}
	return nil
}

// listedAt returns where the database lists a task. Memory knows, but for one that a
// transaction has outdated a moment ago.
func (w *writer) listedAt(it *item) int64 {
	if it.header.latest == "" || it.home != homeTasks {
		return it.homeWhen
	}
	l := load(w.b, it.header.id)
	if l == nil || l.bad != nil || l.reset != nil || l.home != homeTasks {
		return it.homeWhen
	}
	return firstLook(l.sched.due, l.header.expires)
}

// putWaiting writes what has changed of a task that waits. The event itself is
// written once; a retry rewrites its schedule only.
func (w *writer) putWaiting(it *item) error {
	id, h := it.header.id[:], &it.header
	fresh := it.home != homeTasks
	if fresh || it.rewritten {
		value := it.raw
		if it.damaged == homeNone { // else no CRC may make it look intact
			value = withCRC(id, value) // behind raw, whose array is the entry's alone: see encode
		}
		if err := w.b.tasks.Put(id, value); err != nil {
			return err
		}
	}
	when := firstLook(it.sched.due, it.header.expires)
	moved := !fresh && it.homeWhen != when
	if it.sched.attempts > 0 || len(it.sched.failures) > 0 || it.sched.stale || it.sched.due != h.due || moved {
		if err := w.b.retries.Put(id, withCRC(id, appendSchedule(nil, &it.sched))); err != nil {
			return err
		}
	}
	if moved {
		if err := w.due.remove(h.at(it.homeWhen)); err != nil {
			return err
		}
	}
	if _, err := w.hold(it); err != nil {
		return err
	}
	if h.key == "" {
		return w.list(h.at(when))
	}
	w.keys[h.key] = true
	if !fresh {
		return nil
	}
	return w.b.keys.Put(keyPlace(h.key, h.id), nil)
}

// removeWaiting deletes a task that waits no longer, and all that points to it.
func (w *writer) removeWaiting(it *item) error {
	id, h := it.header.id[:], &it.header
	if it.unsure {
		w.unsure[h.id] = true
	}
	if it.damaged != homeNone {
		if err := w.unlistDamaged(it); err != nil {
			return err
		}
	}
	if err := w.b.tasks.Delete(id); err != nil {
		return err
	}
	if err := w.b.retries.Delete(id); err != nil {
		return err
	}
	if err := w.due.remove(h.at(it.homeWhen)); err != nil {
		return err
	}
	if h.key != "" {
		w.keys[h.key] = true
		if err := w.b.keys.Delete(keyPlace(h.key, h.id)); err != nil {
			return err
		}
	}
	for _, place := range h.places() {
		if bytes.Equal(w.b.sole.Get(place), id) {
			if err := w.b.sole.Delete(place); err != nil {
				return err
			}
		}
	}
	return nil
}

// places are those of the task's Unique and LatestOnly keys in the sole bucket.
func (h *header) places() (p [][]byte) {
	if h.unique != "" {
		p = append(p, uniquePlace(h.unique))
	}
	if h.latest != "" {
		p = append(p, latestPlace(h.latest))
	}
	return p
}

// hold makes the task the holder of its keys: if memory knows that it is, or unless
// a newer one is. A stale one is no holder, though it may have a higher ID than the one
// that is (see latest.go), and one that has ended takes no key from others. It returns how
// many keys it has come to hold.
func (w *writer) hold(it *item) (puts int, err error) {
	id := it.header.id[:]
	takes := func(holder []byte, holds, lost bool) bool {
		return holder == nil || !lost && (holds || bytes.Compare(holder, id) < 0)
	}
	if key := it.header.unique; key != "" && takes(w.b.sole.Get(uniquePlace(key)), it.holdsUnique, it.lostUnique) {
		if err := w.b.sole.Put(uniquePlace(key), id); err != nil {
			return puts, err
		}
		puts++
	}
	if key := it.header.latest; key != "" && !it.sched.stale && takes(w.b.latestHolder(key), it.holdsLatest, it.lostLatest) {
		if err := w.b.sole.Put(latestPlace(key), id); err != nil {
			return puts, err
		}
		puts++
	}
	return puts, nil
}

// outdate marks the holder of a LatestOnly key, if the database has one, as replaced
// by a task that is about to be put: should that be gone one day, the old one must
// not pass for new. A claim drops it when it looks at it, and is to do so now: it may
// stand before others of its ordering key (P4). outdate returns where it is listed.
func (w *writer) outdate(latest string, now int64) (at place, err error) {
	if latest == "" {
		return at, nil
	}
	v := w.b.sole.Get(latestPlace(latest))
	if len(v) != len(outbox.ID{}) {
		return at, nil
	}
	id := outbox.ID(v)
	l := load(w.b, id)
	if l == nil || l.bad != nil || l.home != homeTasks {
		return at, nil
	}
	if err := w.due.settle(); err != nil { // it may be among what was added
		return at, err
	}
	if err := w.due.remove(l.place()); err != nil {
		return at, err
	}
	l.sched.stale, l.sched.due = true, min(l.sched.due, now)
	if err := w.b.retries.Put(id[:], withCRC(id[:], appendSchedule(nil, &l.sched))); err != nil {
		return at, err
	}
	at = l.place()
	if l.header.key != "" {
		w.keys[l.header.key] = true
		return at, nil
	}
	return at, w.list(at)
}

func (w *writer) list(p place) error {
	w.listed = append(w.listed, p)
	return w.due.add(p)
}

// finish writes what depends on all that was put.
func (w *writer) finish(path string) error {
	if err := w.forgetPlaces(); err != nil {
		return err
	}
	if err := w.listHeads(); err != nil {
		return err
	}
	if err := w.due.settle(); err != nil {
		return err
	}
	return w.account(path)
}

// listHeads puts the head of every key that was touched into the due bucket, so
// that a claim meets each key once, however many tasks are behind its head (P4).
// A former head may stay listed; a claim sees that an older one is in front.
func (w *writer) listHeads() error {
	c := w.b.keys.Cursor()
	for key := range w.keys {
		prefix := keyPrefix(key)
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			if len(k) != len(prefix)+len(outbox.ID{}) {
				continue
			}
			id := outbox.ID(k[len(prefix):])
			l := load(w.b, id)
			if l == nil || l.home != homeTasks {
				continue // it should not be here: see reindex
			}
			at := l.place()
			if l.bad != nil {
				at.when = 0 // to be met soon: see damaged.go
			}
			if err := w.list(at); err != nil {
				return err
			}
			break
		}
	}
	return nil
}
