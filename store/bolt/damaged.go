package bolt

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// Quarantine (P11, R26). A value that fails its CRC, or does not decode, ends nothing
// but its own task. Whoever meets it, a claim or a listing, turns it into a dead
// letter with [outbox.ReasonDamaged], by a log record of its own, so that the ledger
// knows (P5) and a replay does the same. A checkpoint then moves its bytes, untouched,
// to the bucket "damaged" and takes its places out of the indexes, and those behind it
// in its key go on in their order (P4). It can be listed and deleted, not requeued.
//
// What else may be damaged:
//
//   - The schedule of a task: the task is intact, so it is due when it first was, with
//     all its attempts; what it has tried is forgotten. It is logged.
//   - An index, which has no CRC: see reindex.
//   - The records of the meta bucket: nothing is known without them, so opening fails.
//   - A task in a log record whose checksum is right: that is no damage, but a mistake
//     of ours, or of the future, and an error.

// counts is where a task of this home counts: one that is damaged is a dead letter.
func (h home) counts() home {
	if h == homeDamaged {
		return homeDead
	}
	return h
}

// spoilt makes a loaded task a damaged one. What its bytes still say is believed where
// the indexes say the same.
func (l *loaded) spoilt(b buckets, id outbox.ID, v []byte, err error) *loaded {
	what := "task"
	if l.home == homeDead {
		what = "dead task"
	}
	l.bad = fmt.Errorf("%s %s: %w", what, id, err)
	if !errors.Is(err, outbox.ErrCorrupt) {
		l.bad = fmt.Errorf("%w: %w", outbox.ErrCorrupt, l.bad)
	}
	l.from, l.raw, l.sched = l.home, append([]byte(nil), v...), schedule{}
	h, err := decodeHeader(taskIn(l.home, v))
	l.header = headerOf(taskIn(l.home, v))
	l.header = header{id: id, queue: l.header.queue, cost: l.header.cost}
	if l.home != homeTasks {
		return l
	}
	if l.unsure = err != nil; l.unsure {
		return l
	}
	if h.key != "" && has(b.keys, keyPlace(h.key, id)) {
		l.header.key = h.key
	}
	if string(b.sole.Get(uniquePlace(h.unique))) == string(id[:]) {
		l.header.unique = h.unique
	}
	if string(b.sole.Get(latestPlace(h.latest))) == string(id[:]) {
		l.header.latest = h.latest
	}
	due := h.due
	if s, err := loadSchedule(b, id); err == nil && s != nil {
		due = s.due
	}
	l.listed = firstLook(due, h.expires)
	l.unsure = l.header.key != h.key || l.header.key == "" && !lists(b.due, l.header.at(l.listed))
	return l
}

// taskIn returns where in a damaged value the task should be.
func taskIn(from home, v []byte) []byte {
	v = v[:max(len(v)-4, 0)]
	if from == homeDead {
		r := reader{b: v}
		v = r.take(int(r.uint32()))
	}
	return v
}

// costOfDamaged is what a damaged value costs, which must be the same wherever it is.
func costOfDamaged(from home, v []byte) int64 { return costOfValue(taskIn(from, v)) }

// loadDamaged reads a value of the damaged bucket.
func loadDamaged(id outbox.ID, v []byte) *loaded {
	l := &loaded{home: homeDamaged, from: homeTasks, reason: outbox.ReasonDamaged,
		bad: fmt.Errorf("%w: task %s has been damaged before", outbox.ErrCorrupt, id)}
	if len(v) > 0 && home(v[0]) == homeDead {
		l.from = homeDead
	}
	l.raw = append([]byte(nil), v[min(1, len(v)):]...)
	l.header = header{id: id, cost: costOfDamaged(l.from, l.raw)}
	return l
}

// admitDamaged makes an entry of a damaged task, and queues the record that makes it
// a dead letter. mu is held.
func (s *Store) admitDamaged(l *loaded) *entry {
	e := newEntry(l.header, l.raw)
	e.damaged, e.unsure = l.from, l.unsure
	e.home, e.homeWhen, e.charged, e.reason = l.home, l.listed, l.home.counts(), l.reason
	e.phase = idle
	s.overlay.admit(e)
	if l.home != homeTasks {
		e.state = outbox.Dead
	}
	if l.home == homeDamaged || !s.live {
		return e
	}
	s.opts.logger.Error("outbox: stored task is damaged, and kept as a dead letter", "store", s.dir, "error", l.bad)
	s.quarantine(e)
	return e
}

// quarantine queues the record that makes a damaged task a dead letter. If there is no room
// for that, the task waits in memory until there is (I3), in no queue and in no lane, so it
// is not delivered and in nobody's way. mu is held.
func (s *Store) quarantine(e *entry) {
	o := &op{kind: opDamage, id: e.id, wasDead: e.state == outbox.Dead}
	if err := s.recordLocked([]decided{{e, o}}); err != nil {
		s.spoilt = true
		wake(s.wakeFlush)
	}
}

// quarantineRest does that, now that there is room, for those that had none. Where a
// checkpoint has taken one out of memory, whose place is not known for sure, the next claim
// finds it again. mu is held.
func (s *Store) quarantineRest() {
	if !s.spoilt {
		return
	}
	s.spoilt, s.unlisted = false, true
	for _, e := range s.overlay.entries {
		if e.damaged != homeNone && e.reason != outbox.ReasonDamaged && e.phase == idle && !e.gone {
			s.quarantine(e)
		}
	}
	s.announceLocked()
}

// damagedTask is what a listing shows of a damaged task: what its bytes say, which
// may be wrong, as far as they can be read.
func damagedTask(id outbox.ID, from home, raw []byte) outbox.Task {
	t, err := decodeTask(taskIn(from, raw))
	if err != nil {
		t = outbox.Task{}
		r := reader{b: taskIn(from, raw)}
		r.take(fixedSize(r.b))
		if name := r.bytes(); !r.bad && len(name) <= outbox.MaxNameBytes {
			t.Name = string(name)
		}
	}
	if t.Name == "" || !utf8.ValidString(t.Name) {
		t.Name = "(damaged)"
	}
	t.ID, t.CreatedAt = id, id.Timestamp().UTC()
	t.DueAt, t.ExpiresAt = time.Time{}, time.Time{}
	t.State, t.Reason = outbox.Dead, outbox.ReasonDamaged
	return t
}

// findKeys looks for the ordering keys of damaged tasks whose values do not say them, for
// what stands behind them to go on. That is one look through the whole keys bucket, for
// all that were found.
func (r *refillResult) findKeys(b buckets) {
	unknown := map[outbox.ID]*loaded{}
	for _, l := range r.found {
		if l.bad != nil && l.unsure && l.header.key == "" {
			unknown[l.header.id] = l
		}
	}
	if len(unknown) == 0 {
		return
	}
	c := b.keys.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		key, id, ok := keyAndID(k)
		if l := unknown[id]; ok && l != nil {
			l.header.key = string(key)
			r.lanes = append(r.lanes, laneLookup{key: string(key)})
		}
	}
}

// keepDamaged moves the bytes of a damaged task to their bucket, which is made when
// the first comes.
func (w *writer) keepDamaged(it *item) error {
	if w.b.damaged == nil {
		b, err := w.b.root.CreateBucketIfNotExists(bucketDamaged)
		if err != nil {
			return err
		}
		w.b.damaged = b
	}
	return w.b.damaged.Put(it.header.id[:], append([]byte{byte(it.damaged)}, it.raw...))
}

// unlistDamaged takes a damaged task out of the due bucket where memory may not know that
// it is listed: listHeads has put it in front of the queue if it was the head of its key.
func (w *writer) unlistDamaged(it *item) error {
	if l := load(w.b, it.header.id); l != nil && l.home == homeTasks {
		if err := w.due.remove(it.header.at(l.listed)); err != nil {
			return err
		}
	}
	return w.due.remove(it.header.at(0))
}

// forgetPlaces takes those tasks out of the indexes whose values no longer say where
// they stood. It goes through the indexes once, whole.
func (w *writer) forgetPlaces() error {
	if len(w.unsureDead) > 0 {
		if _, err := dropFrom(w.b.parked, func(k, _ []byte) bool {
			id := idAtEnd(k)
			return len(id) == len(outbox.ID{}) && w.unsureDead[outbox.ID(id)]
		}); err != nil {
			return err
		}
	}
	if len(w.unsure) == 0 {
		return nil
	}
	if err := w.forgetListed(); err != nil {
		return err
	}
	for _, one := range [...]struct {
		bucket *bbolt.Bucket
		id     func(k, v []byte) []byte
	}{
		{w.b.keys, func(k, _ []byte) []byte { return idAtEnd(k) }},
		{w.b.sole, func(_, v []byte) []byte { return v }},
	} {
		var gone [][]byte
		c := one.bucket.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if id := one.id(k, v); len(id) == len(outbox.ID{}) && w.unsure[outbox.ID(id)] {
				gone = append(gone, append([]byte(nil), k...))
			}
		}
		for _, k := range gone {
			if one.bucket == w.b.keys {
				w.keys[string(k[min(2, len(k)):len(k)-len(outbox.ID{})])] = true
			}
			if err := one.bucket.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetListed is the part of forgetPlaces that is about the due bucket.
func (w *writer) forgetListed() error {
	if err := w.due.settle(); err != nil {
		return err
	}
	var gone []place
	for l := (placeCursor{c: w.b.due.Cursor()}).first(); l.k != nil; l.next() {
		if p, ok := placeOf(l.k); ok && w.unsure[l.spot().id] {
			gone = append(gone, place{p.queue, l.spot()})
		}
	}
	for _, p := range gone {
		if err := w.due.remove(p); err != nil {
			return err
		}
	}
	return nil
}

// idAtEnd returns the ID that a place ends with.
func idAtEnd(k []byte) []byte { return k[max(len(k)-len(outbox.ID{}), 0):] }

// countDamaged returns how many dead letters are damaged ones: those of the bucket, and
// what memory knows beyond it. The first is a scan of a few, one hopes. mu is held.
func (s *Store) countDamaged(inBucket int) uint64 {
	n := inBucket
	for _, e := range s.overlay.entries {
		if e.damaged == homeNone {
			continue
		}
		if e.home == homeDamaged {
			n--
		}
		if !e.gone && e.phase != ending && (e.state == outbox.Dead || e.phase == settling) {
			n++
		}
	}
	return uint64(max(n, 0))
}

// damagedIn counts the damaged bucket.
func damagedIn(b buckets) (n int) {
	if b.damaged == nil {
		return 0
	}
	c := b.damaged.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	return n
}
