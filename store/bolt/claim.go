package bolt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Claim implements [outbox.Store]. Tasks in memory and tasks in the database's due
// bucket come in one order; what is read from the database is read some hundred
// tasks ahead. Each class and event name has a queue of its own, and a claim asks Match
// once for each name, looks at the heads of the queues that match, and does not come
// upon what waits in the others. With more than 4,096 names at a time, those that come
// then share one queue of their class, as do all tasks that were stored before
// there were queues; of these a claim with Match looks at the first that wait, and may
// find what matches only when some of what is in front has been claimed. What has expired
// is dropped by a claim that comes upon it, so one that does not match stands in the way
// of its key until its own queue is claimed from. A claim is known to this process only and writes nothing to disk,
// so an outage costs no byte (P6), and after a restart everything waits again.
func (s *Store) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	if err := ctx.Err(); err != nil {
		return outbox.Claimed{}, fmt.Errorf("bolt: claim: %w", err)
	}
	if req.Lease <= 0 || req.Lease > outbox.MaxLease {
		req.Lease = outbox.MaxLease
	}
	s.claiming.Lock()
	defer s.claiming.Unlock()
	c := claim{
		s: s, max: max(req.Max, 1), maxBytes: int64(req.MaxBytes), lease: int64(req.Lease),
		match: req.Match, newest: req.Newest, gathered: &s.gathered,
	}
	defer c.forget()
	c.gaps = req.Gaps && (req.Match == nil || req.Match(outbox.GapName))
	for synced := false; ; {
		need, err := c.pick(all)
		if err == nil && need == needRefill {
			need, err = c.refill(ctx)
		}
		if err == nil && need == needPause {
			if err = ctx.Err(); err == nil {
				continue
			}
			err = fmt.Errorf("bolt: claim: %w", err)
		}
		if err == nil && need == needTell {
			if err = c.tell(ctx); err == nil {
				continue
			}
		}
		if err == nil && need == needSync && !synced { // also after a refill that found nothing
			synced = true
			if err = s.syncLog(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			c.giveBack()
			return outbox.Claimed{}, s.translate(err)
		}
		if need != needRefill {
			return c.finish()
		}
	}
}

// claim is one call of Claim.
type claim struct {
	s        *Store
	max      int
	maxBytes int64
	bytes    int64
	lease    int64
	match    func(name string) bool
	newest   bool
	waited   bool // for room in memory, once
	gaps     bool // tell of them
	picked   []*entry
	nextIn   time.Duration

	*gathered
}

// need is what must be done before a claim has what it wants.
type need uint8

const (
	needNothing need = iota
	needRefill       // the database may have a task that comes first
	needSync         // a retry that is due is not durable yet
	needTell         // a gap event comes first
	needPause        // it has ended many that are not to be delivered, and there may be more
)

// scope is among which tasks pick chooses.
type scope uint8

const (
	all    scope = iota // those in memory and in the database
	known               // all, but for keys whose head is not known yet
	inLine              // those in memory, up to the first that is not
	onHand              // those in memory
)

func (c *claim) pick(from scope) (need, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err := c.s.usable(); err != nil {
		return needNothing, err
	}
	return c.pickLocked(from)
}

// refill brings more tasks into memory and picks among them before a checkpoint
// can take them out again. What was delivered fills memory until a checkpoint has
// taken it from the database, so draining faster than that has to wait (P7).
func (c *claim) refill(ctx context.Context) (need, error) {
	s := c.s
	s.mu.Lock()
	full, room, stuck := s.full(), s.room, s.noRoom != nil
	s.mu.Unlock()
	if !full {
		var n need
		err := s.refill(c.wanted(), func() (err error) {
			n, err = c.pickLocked(known)
			return err
		})
		return n, err
	}
	wake(s.wakeFlush)
	from := inLine
	if c.waited || stuck {
		from = onHand // better out of order than not at all
	}
	if n, err := c.pick(from); err != nil || len(c.picked) > 0 || n == needTell || n == needPause {
		c.nextIn = 0
		return n, err
	}
	c.waited = true
	timer := time.NewTimer(roomWait / 4)
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
	case <-ctx.Done():
		return needNothing, fmt.Errorf("bolt: claim: %w", ctx.Err())
	}
	return needRefill, nil
}

// unwanted says whether a task must be dropped instead of delivered, and why.
func (e *entry) unwanted(now int64) (reason uint8, drop bool) {
	switch {
	case e.expires != 0 && e.expires <= now:
		return dropExpired, true
	case e.stale:
		return dropCoalesced, true
	}
	return 0, false
}

// take claims an entry. mu is held.
func (s *Store) take(e *entry, now, lease int64) {
	s.overlay.leave(e)
	if e.lane != nil {
		e.lane.busy = e
	}
	s.lastToken++
	e.phase, e.token, e.leaseEnd = claimed, s.lastToken, now+lease
	s.overlay.lease(e)
}

// giveBack makes a claimed entry wait again, until due. mu is held.
func (s *Store) giveBack(e *entry, due int64) {
	s.overlay.unlease(e)
	e.phase, e.token = idle, 0
	e.dueAt(due)
	s.overlay.enter(e)
}

// endLeases gives back what was claimed and not settled in time. mu is held.
func (s *Store) endLeases(now int64) {
	for e := s.overlay.leases.top(); e != nil && e.leaseEnd <= now; e = s.overlay.leases.top() {
		s.giveBack(e, e.sched.due)
	}
}

// finish turns the entries into tasks, out of mu: an entry's bytes never change,
// and nobody but this claim's owner can end it while the lease lasts.
func (c *claim) finish() (outbox.Claimed, error) {
	claimed := outbox.Claimed{NextIn: c.nextIn}
	if len(c.picked) == 0 {
		return claimed, nil
	}
	views := c.s.viewAll(c.picked)
	claimed.Tasks = make([]outbox.Task, len(views))
	for i := range views {
		t, err := views[i].task()
		if err != nil {
			c.giveBack()
			return outbox.Claimed{}, err
		}
		claimed.Tasks[i] = t
	}
	return claimed, nil
}

// giveBack ends a claim that failed half way.
func (c *claim) giveBack() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, e := range c.picked {
		if e.phase == claimed {
			c.s.giveBack(e, e.due)
		}
	}
	c.picked = nil
	c.s.announceLocked()
}

// view is a copy of what an entry says of its task.
type view struct {
	raw    []byte
	sched  schedule
	due    int64
	state  outbox.State
	reason outbox.Reason
	token  uint64

	id      outbox.ID
	damaged home
}

func (e *entry) view() view {
	v := view{raw: e.raw, sched: e.sched, due: e.due, state: e.state, reason: e.reason, token: e.token, id: e.id, damaged: e.damaged}
	if e.phase == claimed || e.phase == settling || e.phase == ending {
		v.state = outbox.InFlight
	}
	return v
}

// viewAll copies what mu guards.
func (s *Store) viewAll(entries []*entry) []view {
	s.mu.Lock()
	defer s.mu.Unlock()
	views := make([]view, len(entries))
	for i, e := range entries {
		views[i] = e.view()
	}
	return views
}

// task decodes the view.
func (v view) task() (outbox.Task, error) {
	if v.damaged != homeNone {
		return damagedTask(v.id, v.damaged, v.raw), nil
	}
	t, err := decodeTask(v.raw)
	if err != nil {
		return t, err
	}
	t.State, t.Reason, t.Token = v.state, v.reason, v.token
	t.Attempts, t.Failures, t.DueAt = v.sched.attempts, slices.Clone(v.sched.failures), wall(v.due)
	t.Attempt = v.sched.attempts + 1
	if v.state == outbox.Dead {
		t.Attempt = v.sched.attempts
	}
	return t, nil
}
