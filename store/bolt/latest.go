package bolt

import (
	"bytes"

	"github.com/goutbox/goutbox/outbox"
)

// Of the tasks with one LatestOnly key one at most waits that is not stale: the holder.
// A newer one drops the holder if that waits; if it is in flight, or in the database and
// the newer one came in a transaction, it is marked as stale, and must not wait again.
// The mark is a part of the schedule, and so outlives the newer task: a stale task must
// not pass for new when that is gone, nor take the key from a dead letter that was
// requeued meanwhile and has a lower ID.

// outdate marks a task as replaced by a newer one of its LatestOnly key, as of a time on
// the store's clock. It is due then at the latest: only a claim that comes upon it drops
// it, and others of its ordering key may stand behind it (P4). mu is held.
func (s *Store) outdate(e *entry, clock int64) {
	e.stale, e.sched.stale = true, true
	e.sched.due = min(e.sched.due, clock)
	s.overlay.yield(e)
	if e.phase == settling { // a retry perhaps, behind which others wait: see pick
		s.retryDue = min(s.retryDue, e.sched.due)
	}
	switch {
	case !s.live:
		e.dueAt(e.sched.due)
	case e.phase == idle && e.state == outbox.Waiting && !e.gone:
		s.overlay.leave(e)
		e.dueAt(e.sched.due)
		s.overlay.enter(e)
	}
}

// outdateLocked drops a task in memory whose LatestOnly key was taken over in a
// transaction, or has it dropped should it come back from its publisher. The record
// comes before any that the new task will have, so no crash can bring the old one
// back after the new one is gone. mu is held.
func (s *Store) outdateLocked(e *entry) {
	s.outdate(e, s.clock.now())
	if e.phase == idle && e.state == outbox.Waiting && !e.gone {
		// On an error the task is dropped when it is claimed.
		_ = s.recordLocked([]decided{{e, &op{kind: opDrop, id: e.id, drop: dropCoalesced}}})
	}
}

// outdateOlder does that for all that are older than a task which a transaction has
// committed: the holder of the key, and those who would have it back if the record of the
// holder failed. mu is held.
func (s *Store) outdateOlder(latest string, id outbox.ID) {
	for e := s.overlay.latest[latest]; e != nil; e = e.prior {
		if e.id.Compare(id) < 0 && s.overlay.entries[e.id] == e {
			s.outdateLocked(e)
		}
	}
}

// inheritedBy notes that older, which was found in the database when e held its LatestOnly
// key already, has the key if e's record fails. A transaction has committed it meanwhile.
func (e *entry) inheritedBy(older *entry) {
	for e.prior != nil && e.prior.id.Compare(older.id) > 0 {
		e = e.prior
	}
	if !e.durable() {
		e.prior = older
	}
}

// yield gives e's LatestOnly key free.
func (o *overlay) yield(e *entry) {
	if e.latest != "" && o.latest[e.latest] == e {
		delete(o.latest, e.latest)
	}
}

// catchUp has an item say what its entry has learned since the checkpoint was begun: a
// transaction that was committed meanwhile may have taken its LatestOnly key, or, where its
// end is in the log by now, either key. Written as it was, the task would take that back, and
// the next checkpoint would delete it along with the task. mu is held, and nobody else writes
// to the database.
func (o *overlay) catchUp(it *item) {
	e := it.e
	it.lostUnique = it.holdsUnique && (e.gone || o.unique[e.unique] != e)
	it.lostLatest = it.holdsLatest && o.latest[e.latest] != e
	if it.header.latest != "" && e.sched.stale && it.target() == homeTasks {
		it.sched.stale, it.sched.due = true, min(it.sched.due, e.sched.due)
	}
}

// latestHolder returns the ID of the task that holds a LatestOnly key in the database;
// nil if none does, or one that is stale.
func (b buckets) latestHolder(key string) []byte {
	id := b.sole.Get(latestPlace(key))
	if len(id) != len(outbox.ID{}) || b.tasks.Get(id) == nil {
		return nil
	}
	if sched, err := loadSchedule(b, outbox.ID(id)); err == nil && sched != nil && sched.stale {
		return nil
	}
	return id
}

// newer returns the ID of a newer task with the LatestOnly key of one that waits, if the
// database has one, or nil.
func (b buckets) newer(h *header) []byte {
	if h.latest == "" {
		return nil
	}
	if id := b.latestHolder(h.latest); bytes.Compare(id, h.id[:]) > 0 {
		return id
	}
	return nil
}

// outdated reports whether a task had lost its LatestOnly key to one that a transaction has
// put into the database. What a record before has ended or outdated is none any more: then
// this one came later, from another store.
func (r *recovery) outdated(h *header) bool {
	id := r.b.newer(h)
	if id == nil {
		return false
	}
	newer := r.s.overlay.entries[outbox.ID(id)]
	return newer == nil || !newer.gone && !newer.stale && newer.state != outbox.Dead
}
