package outbox

import (
	"errors"
	"log/slog"
	"time"
)

// horizon is how far ahead tasks are claimed: about what will be begun within this
// time. A claimed task can be neither replaced (LatestOnly) nor deleted, its TTL
// runs on, and other dispatchers do not get it; so with slow publishers nothing is
// claimed ahead, and with quick ones enough that they need not wait for the store.
const horizon = 50 * time.Millisecond

// Bounds of what one dispatcher holds at a time (P7).
const (
	minAhead      = 64      // claimed but not begun, unless Concurrency is more
	aheadBatches  = 4       // the same for batches, in batches
	maxAheadBytes = 8 << 20 // payload bytes claimed but not begun
	maxUnsettled  = 8192    // outcomes that the store has not taken yet
)

// plan is what the loop does next: end, claim, or wait.
type plan struct {
	over       bool
	err        error // why, if it is over before it is through
	max, bytes int
	probe      uint64
	wait       time.Duration
}

// plan looks at where things stand.
func (d *dispatcher) plan(now time.Time) (p plan) {
	overdue := d.giveUp(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	look := !now.Before(d.next) || d.failures == 0 && d.fresh.Load()
	switch {
	case d.failed != nil, d.drain && d.outLocked():
		p.over = true
	case d.o.paused.Load() && d.drain:
		p.over, p.err = true, ErrPaused
	case d.o.paused.Load():
		p.wait = Forever
	case d.drain && !look && d.queue.n == 0 && d.active.n == 0 && d.unsettled == 0:
		p.over = true
	case !look:
		p.wait = d.next.Sub(now)
	default:
		p.max, p.bytes = d.roomLocked(now)
		if d.hungry = p.max == 0; d.hungry {
			p.wait = Forever
		} else {
			p.max, p.probe, p.wait = d.gate.permit(now, p.max)
		}
	}
	p.wait = min(p.wait, overdue, d.lingerLocked(now))
	return p
}

// roomLocked says how much may be claimed: what the idle workers can take, and what
// will be wanted within the horizon at the pace since the last claim, or since the one before it, if that
// is higher: right after a claim nothing has ended, and while a store on a server is asked, all that it
// gave before may be published. Nothing while
// half of that is queued, so that claims are not made one task at a time.
func (d *dispatcher) roomLocked(now time.Time) (tasks, bytes int) {
	target := max(d.conf.concurrency-d.active.n, 0) * d.batch
	if d.conf.limiter != nil {
		target = d.batch // the limiter, not the number of workers, says when they are wanted
	}
	pace := max(within(d.ended, now.Sub(d.claimed)), within(d.ended+d.before, now.Sub(d.earlier)))
	target += int(min(pace, int64(d.ahead)))
	target = min(target, d.ahead)
	d.low = target / 2
	bytes = max(maxAheadBytes, d.bytes) - d.queue.bytes
	if d.gathersLocked(now) { // also while all workers are busy
		return max(target, d.batch) - d.queue.n, bytes
	}
	if d.queue.n >= target || d.queue.n > d.low || bytes <= 0 || d.unsettled >= maxUnsettled {
		return 0, 0
	}
	return target - d.queue.n, bytes
}

// within is how many of what has come to n in a time make a horizon.
func within(n int, in time.Duration) int64 {
	return int64(n) * int64(horizon) / max(int64(in), 1)
}

// outLocked reports whether nothing but a probe is to be begun: the gate is shut, or a
// drain has seen the first sign of an outage.
func (d *dispatcher) outLocked() bool {
	return d.gate.shut || d.drain && d.outage != nil
}

// claim claims as planned and queues what it gets. It returns the errors that end
// the dispatcher.
func (d *dispatcher) claim(p plan) error {
	d.fresh.Store(false) // before the claim: what comes during it is looked for again
	c, err := d.o.store.Claim(d.caller, ClaimRequest{
		Max: p.max, MaxBytes: p.bytes, Lease: d.lease, Match: d.match, Gaps: d.conf.gaps,
		Newest: d.conf.newest && p.probe == 0, // a probe that has failed would be the newest again
	})
	now := time.Now()
	d.mu.Lock()
	d.before, d.ended = d.ended, 0
	if d.claimErr = err; d.caller.Err() != nil {
		d.claimErr = nil
	}
	d.gate.ramp.took(len(c.Tasks))
	if len(c.Tasks) == 0 {
		d.gate.forget(p.probe)
	} else {
		d.queue.add(c.Tasks, p.probe, now)
		if d.outLocked() && p.probe == 0 || d.o.paused.Load() { // since the store was asked
			d.releaseQueueLocked()
		}
		d.callWorkerLocked()
	}
	d.mu.Unlock()

	d.earlier, d.claimed = d.claimed, now
	switch {
	case err == nil:
		d.failures = 0
		if len(c.Tasks) == 0 {
			c.NextIn = max(c.NextIn, time.Millisecond) // a store that contradicts itself must not make us spin
		}
		d.next = now.Add(min(c.NextIn, d.conf.loopInterval))
		return nil
	case d.caller.Err() != nil:
		return nil
	case d.drain || final(err):
		return err
	}
	pause := storePause(d.failures)
	d.failures++
	d.next = now.Add(pause)
	d.conf.log.LogAttrs(d.ctx, slog.LevelWarn, "outbox: cannot claim, will try again",
		slog.String("error", err.Error()), slog.Duration("delay", pause))
	return nil
}

// final reports whether a store that returns err is of no more use.
func final(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrPoisoned) || errors.Is(err, ErrCorrupt)
}

// storePause is how long to leave a store alone that has failed so many times in a
// row before.
func storePause(failures int) time.Duration {
	return double(100*time.Millisecond, time.Minute, failures)
}
