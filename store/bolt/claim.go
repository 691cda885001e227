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
// tasks ahead. A claim is known to this process only and writes nothing to disk,
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
	c := claim{s: s, max: max(req.Max, 1), maxBytes: int64(req.MaxBytes), lease: int64(req.Lease)}
	for synced := false; ; {
		need, err := c.pick(all)
		if err == nil && need == needRefill {
			need, err = c.refill(ctx)
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
	picked   []*entry
	nextIn   time.Duration
}

// need is what must be done before a claim has what it wants.
type need uint8

const (
	needNothing need = iota
	needRefill       // the database may have a task that comes first
	needSync         // a retry that is due is not durable yet
)

// scope is among which tasks pick chooses.
type scope uint8

const (
	all    scope = iota // those in memory and in the database
	known               // all, but for keys whose head is not known yet
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

// pickLocked takes tasks that are due until it has enough, or until the database
// must be asked. mu is held.
func (c *claim) pickLocked(from scope) (need, error) {
	s, o := c.s, &c.s.overlay
	now := s.clock.now()
	s.endLeases(now)
	for {
		if len(c.picked) >= c.max {
			c.nextIn = 0
			return needNothing, nil
		}
		e := o.ready.top()
		if from == all && len(o.lookups) > 0 || from != onHand && o.mustRefill(now, e) {
			return needRefill, nil
		}
		if e == nil || e.when > now {
			if from == known && len(o.lookups) > 0 {
				return needRefill, nil
			}
			c.nextIn = s.untilNext(now, e)
			if len(c.picked) == 0 && s.retrying > 0 && s.retryDue <= now {
				// What is due has failed a moment ago; the background would make that
				// durable a little later.
				return needSync, nil
			}
			return needNothing, nil
		}
		if reason, drop := e.unwanted(now); drop {
			if err := s.recordLocked([]decided{{e, &op{kind: opDrop, id: e.id, drop: reason}}}); err != nil {
				return needNothing, err
			}
			continue
		}
		if c.maxBytes > 0 && len(c.picked) > 0 && c.bytes+int64(e.payload) > c.maxBytes {
			c.nextIn = 0
			return needNothing, nil
		}
		c.bytes += int64(e.payload)
		s.take(e, now, c.lease)
		c.picked = append(c.picked, e)
	}
}

// refill brings more tasks into memory and picks among them before a checkpoint
// can take them out again. What was delivered fills memory until a checkpoint has
// taken it from the database, so draining faster than that has to wait (P7).
func (c *claim) refill(ctx context.Context) (need, error) {
	s := c.s
	s.mu.Lock()
	full, room := s.full(), s.room
	s.mu.Unlock()
	if !full {
		var n need
		err := s.refill(func() (err error) {
			n, err = c.pickLocked(known)
			return err
		})
		return n, err
	}
	wake(s.wakeFlush)
	if n, err := c.pick(onHand); err != nil || len(c.picked) > 0 {
		c.nextIn = 0
		return n, err
	}
	timer := time.NewTimer(roomWait)
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

// untilNext returns how long until another task may be claimable. e is the first
// in memory. mu is held.
func (s *Store) untilNext(now int64, e *entry) time.Duration {
	next := s.overlay.floor.when
	if e != nil {
		next = min(next, e.when)
	}
	if e := s.overlay.leases.top(); e != nil {
		next = min(next, e.leaseEnd)
	}
	if next == never {
		return outbox.Forever
	}
	return time.Duration(max(next-now, 1))
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
