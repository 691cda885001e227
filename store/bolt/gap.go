package bolt

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// Gap markers. What a quota drops, or what expires, is added up, by reason, as the record of
// the drop says, which holds what is needed even if nothing is left of the task. One
// record makes the event that tells of a sum and sets the sums that are left, so no
// crash loses a drop or tells it twice (P5).
//
// The sums are absolute, unlike the ledger: first and last can not be taken back. So the
// database's state says which log record they are of, which may be later than
// its checkpoint: see advance.

// gaps is what is known of gaps, by the index of a reason in [outbox.GapReasons]; never
// renumber.
type gaps [len(outbox.GapReasons)]gap

// gap is what is known of those for one reason.
type gap struct {
	untold outbox.Untold
	last   outbox.ID // the latest gap event,
	cost   int64     // what it costs,
	open   bool      // and whether it waits or is in flight
}

// apply is what an operation does. there says whether anything is left of its task.
func (g *gaps) apply(o *op, there bool) {
	switch o.kind {
	case opGaps:
		*g = *o.gaps
	case opDrop:
		if o.lost != nil {
			g[slices.Index(outbox.GapReasons[:], o.lost.Reason)].untold.Add(*o.lost)
		}
		g.mark(o.id, false)
	case opDone, opBury, opDamage:
		g.mark(o.id, false)
	case opRequeue:
		g.mark(o.id, there)
	}
}

// mark notes whether a task waits, if it is one of the latest gap events.
func (g *gaps) mark(id outbox.ID, waits bool) {
	for i := range g {
		if g[i].last == id {
			g[i].open = waits
		}
	}
}

// owes reports whether there is a gap to tell of.
func (g *gaps) owes() bool {
	for i := range g {
		if g[i].owed() {
			return true
		}
	}
	return false
}

func (g *gap) owed() bool { return g.untold.Count > 0 && !g.open }

// exempt is what waits or is in flight and does not count for a quota.
func (g *gaps) exempt() (a amount) {
	for i := range g {
		if g[i].open {
			a.add(amount{1, g[i].cost}, 1)
		}
	}
	return a
}

// wrong says what can not be, beside a ledger and the last ID.
func (g *gaps) wrong(l *ledger, lastID outbox.ID) string {
	for i := range g {
		u := &g[i].untold
		dropped := l.dropped[dropQuota]
		if outbox.GapReasons[i] == outbox.ReasonExpired {
			dropped = l.dropped[dropExpired]
		}
		switch {
		case u.Count > uint64(max(dropped, 0)):
			return "more is untold than was dropped"
		case u.Count > 0 && (u.Last.Compare(u.First) < 0 || u.Last.Compare(lastID) > 0), g[i].last.Compare(lastID) > 0:
			return "the IDs are out of order"
		case g[i].open && g[i].cost <= 0:
			return "one waits and costs nothing"
		}
	}
	return ""
}

// dropOf is the operation that drops an entry, with what that leaves untold. mu is held.
func (s *Store) dropOf(e *entry, why uint8) *op {
	o := &op{kind: opDrop, id: e.id, drop: why, wasDead: e.state == outbox.Dead}
	if why != dropQuota && why != dropExpired {
		return o
	}
	t := outbox.Task{Event: outbox.Event{ID: e.id, CreatedAt: wall(e.created)}, DueAt: wall(e.sched.due)}
	switch {
	case e.damaged != homeNone: // its bytes say nothing
		t.CreatedAt, t.DueAt = time.UnixMilli(int64(e.id.Time())), wall(s.clock.now())
	case e.gap:
		if whole, err := decodeTask(e.raw); err == nil {
			due := t.DueAt
			t = whole
			t.DueAt = due
		}
	default:
		t.Priority = outbox.Priority(mannerOf(e.raw)&3) - 1
	}
	lost := outbox.UntoldOf(t, dropReasons[why])
	o.lost = &lost
	return o
}

// follow notes what an operation that was queued will do. mu is held.
func (s *Store) follow(o *op) {
	owed := s.gapsAhead.owes()
	s.gapsAhead.apply(o, true)
	if !owed && s.gapsAhead.owes() {
		s.overlay.news.gap = true
	}
}

// followAgain does so for all that is queued, after some of it has failed. mu is held.
func (s *Store) followAgain() {
	s.gapsAhead = s.gaps
	for i := range s.inbox {
		if o := s.inbox[i].op; o != nil {
			s.follow(o)
		}
	}
}

// counted is what waits or is in flight and counts for the quota. mu is held.
func (s *Store) counted() amount {
	u := s.use[homeTasks]
	u.add(s.gapsAhead.exempt(), -1)
	return u
}

// tells reports whether a gap event comes before what is claimed next. mu is held.
func (c *claim) tells() bool { return c.gaps && c.s.gapsAhead.owes() }

// tell makes the gap events that are owed, and returns when they are durable. Without
// room on the disk the claim goes on, and does not ask again (P9).
func (c *claim) tell(ctx context.Context) error {
	s := c.s
	if s.refusal() != nil {
		c.gaps = false
		return nil
	}
	s.mu.Lock()
	pos, err := s.tellLocked()
	s.mu.Unlock()
	if err == nil && pos > 0 {
		err = s.log.Wait(ctx, pos)
	}
	if err = s.translate(err); errors.Is(err, outbox.ErrDiskFull) {
		c.gaps = false
		s.markFull(err)
		wake(s.wakeFlush)
		return nil
	}
	return err
}

// tellLocked queues the one record that makes them. mu is held.
func (s *Store) tellLocked() (wal.Position, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	ahead := s.gapsAhead
	var tasks []outbox.Task
	var due []int64
	now := s.clock.now()
	for i := range ahead {
		if g := &ahead[i]; g.owed() {
			tasks = append(tasks, g.untold.Task())
			due = append(due, nanos(g.untold.DueAt(wall(now))))
		}
	}
	if len(tasks) == 0 {
		return 0, nil
	}
	var d draft
	d.encode(tasks)
	entries, creates := d.entries, d.records
	s.date(tasks, entries)
	n := 0
	for i := range ahead {
		if g := &ahead[i]; g.owed() {
			e := entries[n]
			e.header.due, e.sched.due = due[n], due[n]
			e.dueAt(due[n])
			stamp(e.raw, e.id, e.created, acceptedAt(e.raw), due[n], 0)
			creates[n] = sealCreate(creates[n], outbox.ID{}, outbox.ID{}, &e.sched)
			*g = gap{last: e.id, cost: e.cost, open: true}
			n++
		}
	}
	o := &op{kind: opGaps, gaps: &ahead}
	record := slices.Concat(append([][]byte{o.append(nil)}, creates...)...)
	pos, err := s.log.Queue(record)
	if err != nil {
		return 0, err
	}
	s.count(int64(len(record)))
	s.follow(o)
	s.inbox = append(s.inbox, change{pos: pos, kind: opGaps, op: o})
	for _, e := range entries {
		s.overlay.admit(e)
		made := change{pos: pos, kind: opCreate, e: e}
		s.chargeCreate(&made)
		s.inbox = append(s.inbox, made)
	}
	return pos, nil
}
