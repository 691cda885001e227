package bolt

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// onDurable is called by the log, in the order of the records, once everything up
// to pos is on the disk and before anybody who waits for it is released. Only now
// do the records change the state of the store.
func (s *Store) onDurable(pos wal.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.inbox) && s.inbox[n].pos <= pos {
		s.apply(&s.inbox[n])
		n++
	}
	s.takeFromInbox(n)
	if n > 0 {
		s.announceLocked()
	}
	if s.crowded() {
		wake(s.wakeFlush)
	}
}

// takeFromInbox drops the first n changes and keeps the array for reuse.
func (s *Store) takeFromInbox(n int) {
	rest := copy(s.inbox, s.inbox[n:])
	clear(s.inbox[rest:])
	s.inbox = s.inbox[:rest]
}

// apply is what a durable record does, at run time and in recovery alike. It sets
// absolute values, so that applying a record to a state that is already ahead of
// it, and the records after it, ends in the same state (R30). The ledger is
// changed whatever is left of the task, for the record was true when it was
// written (P5).
func (s *Store) apply(c *change) {
	s.applied = c.pos
	e := c.e
	effect := c.effect()
	s.since.add(effect, 1)
	s.noteDropped(&effect)
	s.noteBuried(c)
	if c.op != nil && c.pos > s.gapsAt {
		s.gaps.apply(c.op, e != nil)
	}
	if s.live && c.kind != opCreate {
		s.coming.add(effect, -1)
	} else if s.live {
		s.sureOf(c)
	}
	if c.replaced != nil {
		s.end(c.replaced, c.pos)
	}
	if o := c.outdated; o != nil && !o.gone {
		s.outdate(o, acceptedAt(e.raw))
		s.overlay.touch(o, c.pos)
	}
	if e == nil {
		return
	}
	switch c.kind {
	case opCreate:
		e.prior = nil
		s.overlay.touch(e, c.pos)
		if c.died != nil {
			s.bornDead(e, c.died)
		} else if e.phase == queued {
			s.wait(e)
		}
	case opDone, opDrop:
		s.noteDrop(c)
		s.end(e, c.pos)
	case opSpend:
		e.spent = later(c.op.clock, time.Duration(e.spends))
		s.end(e, c.pos)
	case opRetry:
		if s.live {
			s.retrying--
		}
		e.sched = e.sched.after(c.op)
		s.overlay.weigh(e)
		s.overlay.touch(e, c.pos)
		s.wait(e)
	case opBury:
		e.sched = e.sched.after(c.op)
		s.overlay.weigh(e)
		e.state, e.reason = outbox.Dead, c.op.reason
		s.settled(e, c.pos)
		s.buried(e)
	case opPark:
		e.state, e.reason = outbox.Dead, outbox.ReasonKeyParked
		s.settled(e, c.pos)
		s.buried(e)
	case opDamage:
		if c.op.wasDead {
			s.overlay.spoiltParker(e.id)
		}
		e.state, e.reason = outbox.Dead, outbox.ReasonDamaged
		s.overlay.news.unknown() // the refill that has met it has read on in its key
		if e.phase == ending {   // deleted the moment it was met
			s.overlay.touch(e, c.pos)
			break
		}
		s.settled(e, c.pos)
		s.buried(e)
	case opRequeue:
		s.overlay.unpark(e)
		e.state, e.reason = outbox.Waiting, ""
		e.sched.due, e.sched.attempts = c.op.clock, 0
		if !s.live {
			e.stale, e.sched.stale = false, false
		}
		s.unexpire(e)
		s.overlay.touch(e, c.pos)
		s.wait(e)
	}
}

// effect is what the record does to the ledger.
func (c *change) effect() ledger {
	if c.op != nil {
		return c.op.effect()
	}
	l := ledger{accepted: 1}
	if c.replaced != nil {
		l.dropped[dropCoalesced] = 1
	}
	if c.died != nil {
		l.add(c.died.effect(), 1)
	}
	return l
}

// wait makes an entry wait for its due time, or claims it at once if its Create
// has asked for that.
func (s *Store) wait(e *entry) {
	e.phase = idle
	e.dueAt(e.sched.due)
	if !s.live {
		return
	}
	s.overlay.enter(e)
	if e.lease > 0 {
		if now := s.clock.now(); e.at >= 0 && e.when <= now && (e.expires == 0 || e.expires > now) && !s.overlay.parked(e) {
			s.take(e, now, e.lease)
			e.granted = e.token
		}
		e.lease = 0
	}
}

// unexpire lifts the time-to-live of a task that somebody wants delivered after
// all. The encoded task is replaced, not changed: a checkpoint may be reading it.
func (s *Store) unexpire(e *entry) {
	if e.expires == 0 {
		return
	}
	e.expires = 0
	e.raw = slices.Clone(e.raw)
	binary.LittleEndian.PutUint64(e.raw[atExpires:], 0)
	e.rewritten = true
}

// end ends a task: it was delivered or dropped. What the database has of it is
// deleted by the next checkpoint; what only the log had is forgotten at once, unless
// its Unique key stays taken, which the database has yet to know.
func (s *Store) end(e *entry, pos wal.Position) {
	e.gone = true
	s.overlay.unpark(e)
	if e.inDatabase() || e.spent != 0 {
		s.settled(e, pos)
		if s.live && e.spent != 0 {
			s.overlay.reserveSpent(e)
		}
		if !e.inDatabase() {
			s.overlay.letGo(e)
		}
		e.raw, e.sched.failures = nil, nil
		s.overlay.weigh(e)
		return
	}
	if s.live {
		s.overlay.depart(e)
	}
	s.overlay.clean(e)
	s.overlay.forget(e)
}

// settled ends an entry's time among those that wait; the database does not know
// of it yet.
func (s *Store) settled(e *entry, pos wal.Position) {
	e.phase = idle
	s.overlay.touch(e, pos)
	if !s.live {
		return
	}
	s.overlay.depart(e)
	s.overlay.release(e)
}

// after returns the schedule after a failed attempt. A failure that the history
// has already is not added again: recovery may apply a record twice.
func (s schedule) after(o *op) schedule {
	t := outbox.Task{Failures: s.failures}
	known := false
	for _, f := range s.failures {
		known = known || f.At.Equal(o.failure.At) && f.Attempt == o.failure.Attempt
	}
	if !known {
		t.Fail(o.failure)
	}
	next := schedule{due: o.due, attempts: o.attempts, failures: t.Failures, stale: s.stale}
	if s.stale { // see outdate
		next.due = min(o.due, o.clock)
	}
	return next
}

// onFailed is called by the log when it could not make the records from pos on
// durable. For want of disk space they never were, and whatever they were about is
// as it was before; after a failed write it is not known, and the store is of no
// more use.
func (s *Store) onFailed(from wal.Position, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(s.inbox)
	for first > 0 && s.inbox[first-1].pos >= from {
		first--
		s.undo(&s.inbox[first])
	}
	clear(s.inbox[first:])
	s.inbox = s.inbox[:first]
	s.followAgain()
	s.grantLocked()
	s.overlay.news.unknown()
	s.announceLocked()
	wake(s.wakeFlush) // it may be full for want of a segment larger than others, which only the flusher finds out again
}

// undo takes back what queueing a record has done, newest first.
func (s *Store) undo(c *change) {
	e := c.e
	if e == nil {
		return
	}
	if c.kind == opCreate {
		s.sureOf(c)
		s.charge(e, homeNone)
		s.unclaim(e)
		if r := c.replaced; r != nil {
			s.charge(r, homeTasks)
			s.restore(r)
		}
		return
	}
	s.coming.add(c.effect(), -1)
	s.unchargeOp(e, c.op)
	if c.kind == opRetry {
		s.retrying--
	}
	s.restore(e)
}

// restore makes an entry wait again whose outcome is not to be.
func (s *Store) restore(e *entry) {
	s.overlay.weigh(e)
	s.spoilt = s.spoilt || e.damaged != homeNone
	if e.state == outbox.Dead {
		s.overlay.release(e)
		e.phase = idle
		s.overlay.victims[homeDead].saw(e.id)
		return
	}
	s.overlay.unpark(e)
	s.overlay.letGo(e)
	if e.damaged != homeNone { // see quarantine
		e.phase = idle
		return
	}
	s.overlay.holdIfNewest(e)
	if !e.durable() {
		e.phase = queued // never accepted: it is undone next
		return
	}
	e.phase = idle
	s.overlay.enter(e)
}
