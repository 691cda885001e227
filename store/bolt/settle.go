package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// decided is an entry and the operation that ends its claim, its life or its death.
type decided struct {
	e  *entry
	op *op
}

// Settle implements [outbox.Store]. All outcomes become one log record. It is
// durable with the next sync, which comes with the next accepted event, or after
// the time of [WithAckSync] (P3); a release is not written at all (P6).
//
// The next task of a key may be claimed at once: its outcome comes after this one
// in the log, so a crash can not leave it settled and its predecessor not (P4).
func (s *Store) Settle(ctx context.Context, outcomes []outbox.Outcome) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bolt: settle: %w", err)
	}
	lost, err := s.settle(outcomes)
	if err != nil {
		return s.translate(err)
	}
	// What was settled is undone if the disk turns out to be full. So no more than the
	// log has room for may be in question.
	if int64(s.log.Queued()) > s.opts.segmentBytes/4 {
		if err := s.syncLog(ctx); err != nil {
			return s.translate(err)
		}
	}
	if lost > 0 {
		return fmt.Errorf("%w: %d of %d outcomes", outbox.ErrLeaseLost, lost, len(outcomes))
	}
	return nil
}

func (s *Store) settle(outcomes []outbox.Outcome) (lost int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	for i := range outcomes {
		if v := outcomes[i].Verdict; v < outbox.Done || v > outbox.Bury {
			return 0, fmt.Errorf("bolt: settle %s: verdict %d: %w", outcomes[i].ID, v, outbox.ErrInvalid)
		}
	}
	now := s.clock.now()
	list := make([]decided, 0, len(outcomes))
	released := false
	for i := range outcomes {
		out := &outcomes[i]
		e := s.overlay.entries[out.ID]
		if e == nil || e.phase != claimed || e.token != out.Token {
			lost++
			continue
		}
		o := s.outcome(e, out, now)
		if o == nil {
			s.giveBack(e, later(now, out.Delay))
			released = true
			continue
		}
		e.phase = settling
		list = append(list, decided{e, o})
	}
	if err := s.recordMost(list); err != nil {
		return lost, err
	}
	if released || len(list) > 0 {
		s.announceLocked() // the next of a key, or what was released
	}
	return lost, nil
}

// outcome turns what became of a claim into a log operation; nil for a release,
// which the log need not know of. mu is held.
func (s *Store) outcome(e *entry, out *outbox.Outcome, now int64) *op {
	switch out.Verdict {
	case outbox.Done:
		// A full disk must drain (P9), and what a Unique key leaves behind takes room:
		// better an event that may come twice than one that waits.
		if e.spends > 0 && s.noRoom == nil {
			return &op{kind: opSpend, id: e.id, clock: now}
		}
		return &op{kind: opDone, id: e.id}
	case outbox.Bury:
		o := &op{kind: opBury, id: e.id, clock: now, due: e.sched.due, attempts: e.sched.attempts, failure: out.Failure, reason: out.Reason}
		if out.Spends() {
			o.attempts++
		}
		return o
	}
	if e.stale { // a newer task has taken its place meanwhile
		return &op{kind: opDrop, id: e.id, drop: dropCoalesced}
	}
	if out.Verdict == outbox.Retry {
		return &op{kind: opRetry, id: e.id, clock: now, due: later(now, out.Delay), attempts: e.sched.attempts + 1, failure: out.Failure}
	}
	return nil
}

// recordMost is recordLocked for settled claims. If there is no room for the record of
// all, what ends is recorded alone: it needs less and brings some back (P9). What is not
// recorded stays claimed. mu is held.
func (s *Store) recordMost(list []decided) error {
	err := s.recordLocked(list)
	if err == nil {
		return nil
	}
	if errors.Is(err, wal.ErrNoSpace) {
		wake(s.wakeFlush)
		var ends []decided
		for _, one := range list {
			if one.op.ends() {
				ends = append(ends, one)
			}
		}
		if s.recordLocked(ends) == nil {
			list = slices.DeleteFunc(list, func(one decided) bool { return one.op.ends() })
		}
	}
	for _, one := range list {
		one.e.phase = claimed
	}
	return err
}

// ends reports whether nothing is left of the task, which is what makes room.
func (o *op) ends() bool { return o.kind == opDone || o.kind == opSpend || o.kind == opDrop }

// What the log's reserve is for when the disk is full: the record of lighten at the
// last, before it what ends tasks, before that what does not.
const lightenBytes = 4 << 10

// leaving is how much of the log's reserve the operations leave to others.
func (s *Store) leaving(list []decided) int64 {
	for _, one := range list {
		if !one.op.ends() {
			return s.opts.segmentBytes / 2
		}
	}
	return lightenBytes
}

// recordOf is the one log record of several operations.
func recordOf(list []decided) []byte {
	record := make([]byte, 0, 32*len(list))
	for _, one := range list {
		record = one.op.append(record)
	}
	return record
}

// recordLocked queues one record with all operations and makes the entries wait
// for it to become durable. What can be claimed then may be claimed already: the
// order of the log keeps that right. mu is held; on an error nothing has changed.
func (s *Store) recordLocked(list []decided) error {
	if s.noRoom == nil {
		return s.recordBy(s.log.Write, list)
	}
	return s.recordBy(func(records ...[]byte) (wal.Position, error) {
		return s.log.WriteLeaving(s.leaving(list), records...)
	}, list)
}

// recordBy is recordLocked with a choice of the way into the log: drops that are made
// for something new may not take the space that is kept for a full disk. mu is held.
func (s *Store) recordBy(write func(...[]byte) (wal.Position, error), list []decided) error {
	if len(list) == 0 {
		return nil
	}
	record := recordOf(list)
	pos, err := write(record)
	if err != nil {
		return err
	}
	s.count(int64(len(record)))
	s.bookLocked(list, pos)
	return nil
}

// bookLocked notes what the record at pos, which is queued, will do. mu is held.
func (s *Store) bookLocked(list []decided, pos wal.Position) {
	for _, one := range list {
		e, o := one.e, one.op
		if e.token != 0 {
			s.overlay.unlease(e)
			e.token = 0
		}
		e.phase = settling
		s.overlay.burden(e, o)
		switch o.kind {
		case opRetry:
			if due := firstLook(o.due, e.expires); s.retrying == 0 || due < s.retryDue {
				s.retryDue = due
			}
			s.retrying++
		case opRequeue:
			// Not when the record is durable: a transaction may have outdated it by then.
			e.stale, e.sched.stale = false, false
			s.overlay.reserve(e)
		default:
			if o.kind != opBury && o.kind != opPark && o.kind != opDamage {
				e.phase = ending
			}
			if o.kind == opBury && e.parksFor(o.reason) {
				s.overlay.park(e)
			}
			s.overlay.keepLane(e)
			s.overlay.depart(e)
			if o.kind != opSpend {
				s.overlay.release(e)
			}
		}
		s.coming.add(o.effect(), 1)
		s.chargeOp(e, o)
		s.follow(o)
		s.inbox = append(s.inbox, change{pos: pos, kind: o.kind, e: e, op: o})
	}
	if len(list) > 0 {
		s.grantLocked()
		wake(s.wakeSync)
	}
}
