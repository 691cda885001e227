package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// Parked keys. A dead letter that parks its key ([outbox.Task.ParksKey]) does so for every
// task of it with a higher ID. Whether a key is parked follows from the dead letters that
// are there and from nothing else, so the log says nothing of it, and replaying a part of
// it twice ends in the same state (R30). The bucket "parked" lists the dead letters that
// park, by key, so that the question costs one seek, and none while nobody ever parked a
// key. A dead letter whose value turns out to be damaged parks nothing: see damaged.go.
//
// In memory, overlay.parks has the dead letters that are entries, from the moment on in
// which their record is queued: the next of the key may be claimed before it is durable.
// Those that are in the database alone a lane learns of when its head is looked up, which
// must come before any claim (I4), and when they leave memory. So whoever is about to
// claim a head knows whether its key is parked (P4), and memory does not grow with the
// number of parked keys (P7).
//
// A head of a parked key dies when a claim comes upon it: not before, for the dead letter
// may be requeued or deleted until then.

// parksFor reports whether the task, dead for this reason, parks its key.
func (h *header) parksFor(reason outbox.Reason) bool {
	return h.parks && reason != outbox.ReasonKeyParked && reason != outbox.ReasonDamaged
}

// parks reports whether the item is to be in the parked bucket.
func (it *item) parks() bool { return it.target() == homeDead && it.header.parksFor(it.reason) }

// park notes that e, which is dead or is going to be, parks its key.
func (o *overlay) park(e *entry) {
	if !e.parking {
		e.parking = true
		o.parks[e.key] = append(o.parks[e.key], e)
	}
}

// unpark ends what park has begun: e is no dead letter any more. Whether another one parks
// the key the database has to say.
func (o *overlay) unpark(e *entry) {
	if !e.parking {
		return
	}
	o.forgetPark(e)
	if l := o.lanes[e.key]; l != nil && l.parker == e.id {
		o.forgetParker(l)
	}
}

// forgetPark is unpark for an entry that leaves memory.
func (o *overlay) forgetPark(e *entry) {
	if !e.parking {
		return
	}
	e.parking = false
	list := slices.DeleteFunc(o.parks[e.key], func(other *entry) bool { return other == e })
	if o.parks[e.key] = list; len(list) == 0 {
		delete(o.parks, e.key)
	}
}

// forgetParker has the lane be looked up anew before its head is claimed.
func (o *overlay) forgetParker(l *lane) {
	l.parker = outbox.ID{}
	o.limitSeen(l.key, outbox.ID{})
}

// spoiltParker notes that a dead letter is damaged, of which the key is not known.
func (o *overlay) spoiltParker(id outbox.ID) {
	for _, l := range o.lanes {
		if l.parker == id {
			o.forgetParker(l)
		}
	}
}

// handOver notes that the database alone has a dead letter from now on.
func (o *overlay) handOver(e *entry) {
	if !e.parking {
		return
	}
	if l := o.lanes[e.key]; l != nil && (l.parker == outbox.ID{} || e.id.Compare(l.parker) < 0) {
		l.parker = e.id
	}
}

// parksStill reports whether memory does not know better than the database, which says
// that this dead letter parks its key.
func (o *overlay) parksStill(id outbox.ID) bool {
	e := o.entries[id]
	return e == nil || e.parking
}

// parked reports whether the key of e, the head of its lane, is parked for it.
func (o *overlay) parked(e *entry) bool {
	if e.lane == nil {
		return false
	}
	if p := e.lane.parker; p != (outbox.ID{}) && p.Compare(e.id) < 0 {
		return true
	}
	for _, dead := range o.parks[e.key] {
		if dead.id.Compare(e.id) < 0 {
			return true
		}
	}
	return false
}

// parkPause is how long the head of a parked key is left alone when there was no room for
// the record of its death: other keys go on meanwhile (P9).
const parkPause = int64(fullPause)

// bury makes the head of a parked key a dead letter. mu is held.
func (s *Store) bury(e *entry, now int64) error {
	err := s.recordLocked([]decided{{e, &op{kind: opPark, id: e.id, clock: now}}})
	if errors.Is(err, wal.ErrNoSpace) {
		wake(s.wakeFlush)
		s.overlay.leave(e)
		e.dueAt(now + parkPause)
		s.overlay.enter(e)
		return nil
	}
	return err
}

// findParker looks for the oldest dead letter that parks a key, in the database alone: of
// those that are in memory memory knows.
func (r *refillResult) findParker(b buckets, key string) (parker outbox.ID) {
	if b.parked == nil {
		return parker
	}
	prefix := keyPrefix(key)
	up := climb{from: prefix}
	c := b.parked.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		if r.broken = up.to(k, bucketParked); r.broken != nil {
			return parker
		}
		if len(k) != len(prefix)+len(parker) {
			continue
		}
		id := outbox.ID(k[len(prefix):])
		if b.dead.Get(id[:]) == nil {
			r.bad = append(r.bad, fmt.Errorf("%w: task %s parks key %q, but is not dead", outbox.ErrCorrupt, id, key))
			continue
		}
		r.s.mu.Lock()
		parks := r.s.overlay.parksStill(id)
		r.s.mu.Unlock()
		if parks {
			return id
		}
	}
	return parker
}

// keepParked brings the parked bucket up to date with a task that is, was or becomes a
// dead letter. The bucket is made when the first comes.
func (w *writer) keepParked(it *item) error {
	switch {
	case it.parks():
		if err := w.makeParked(); err != nil {
			return err
		}
		return w.b.parked.Put(keyPlace(it.header.key, it.header.id), nil)
	case w.b.parked == nil || it.home != homeDead:
		return nil
	case it.damaged != homeNone: // its bytes do not say whether it did
		w.unsureDead[it.header.id] = true
		return nil
	case it.header.parks:
		return w.b.parked.Delete(keyPlace(it.header.key, it.header.id))
	}
	return nil
}

func (w *writer) makeParked() (err error) {
	if w.b.parked == nil {
		w.b.parked, err = w.b.root.CreateBucketIfNotExists(bucketParked)
	}
	return err
}

// parksIn reports whether the dead bucket has, under this ID, what parks its key.
func parksIn(b buckets, key []byte, id outbox.ID) (parks bool) {
	v := b.dead.Get(id[:])
	if v == nil {
		return false
	}
	l := loadDead(b, id, v)
	return l.bad != nil || l.header.key == string(key) && l.header.parksFor(l.reason)
}
