package outbox

import (
	"log/slog"
	"time"
)

// A publisher cannot be stopped from outside. If nothing were done about those that
// do not obey their context, as many of them as there are workers would bring
// everything to a halt, for ever, because a connection died.
const (
	// grace is what a publisher gets on top of the publish timeout. Then its worker
	// is written off and another one takes the place; the event stays in flight.
	grace = time.Second
	// lateFor is how long after the timeout a late result still counts. Then the
	// event has timed out, and may be published again beside the first attempt.
	// The lease is longer.
	lateFor = 2 * time.Minute
)

// giveUp does what is due about publishers that do not return, and returns how long
// until there may be more to do.
func (d *dispatcher) giveUp(now time.Time) (next time.Duration) {
	next = Forever
	for {
		a, wait := d.overdue(now)
		if a == nil {
			next = wait
			break
		}
		d.writeOff(a)
	}
	for {
		a, wait := d.tooLate(now)
		if a == nil {
			return min(next, wait)
		}
		outs, sum := d.judge(a, hanging(a), nil)
		d.mu.Lock()
		d.bookLocked(outs...)
		d.frees = d.frees || sum.frees
		d.mu.Unlock()
	}
}

// overdue returns an attempt whose time and grace are over, and takes it from those
// under way.
func (d *dispatcher) overdue(now time.Time) (*attempt, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost >= d.conf.concurrency && !d.stopping {
		return nil, Forever // a few may be lost, without end they may not: wait for one to return
	}
	for a := d.active.first; a != nil; a = a.next {
		if left := a.end.Add(grace).Sub(now); left > 0 {
			return nil, left
		}
		if !a.ended.Swap(true) { // else its worker is about to hand it in
			d.active.remove(a)
			d.given.add(a)
			d.workers--
			d.lost++
			d.dest.strays.Add(1)
			return a, 0
		}
	}
	if d.queue.n > 0 { // the next attempt may begin at any moment, and tells nobody
		return nil, d.conf.publishTimeout + grace
	}
	return nil, Forever
}

// writeOff goes on without the worker of an attempt that was given up. It counts as
// a timeout for the gate already, but the event stays in flight.
func (d *dispatcher) writeOff(a *attempt) {
	d.conf.log.LogAttrs(d.ctx, slog.LevelWarn, "outbox: publisher does not obey its context, given up",
		slog.String("id", a.tasks[0].ID.String()), slog.String("event", a.tasks[0].Name), slog.Int("events", len(a.tasks)))
	sum := summary{refused: true}
	if d.passed.Load() == a.passed && !d.stopped() {
		sum = summary{down: errHangs}
	}
	d.mu.Lock()
	n := d.noteLocked(a.probe, sum)
	d.callWorkerLocked()
	d.mu.Unlock()
	d.tell(n)
}

// tooLate returns an attempt given up whose result does not count any more. At the
// stop there is none: the events are left in flight, for a late result or the end of
// the lease.
func (d *dispatcher) tooLate(now time.Time) (*attempt, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.given.first
	if a == nil || d.stopping {
		return nil, Forever
	}
	if left := a.end.Add(lateFor).Sub(now); left > 0 {
		return nil, left
	}
	d.given.remove(a)
	a.settled = true
	return a, 0
}

// hanging returns the errors of an attempt that has not ended.
func hanging(a *attempt) []error {
	errs := make([]error, len(a.tasks))
	for i := range errs {
		errs[i] = errHangs
	}
	return errs
}

// late brings in the result of an attempt that was given up, if it still counts.
// The settler may have ended, so the worker settles by itself.
func (w *worker) late() {
	d, a := w.d, w.cur
	d.mu.Lock()
	counts := !a.settled
	if counts {
		d.given.remove(a)
	}
	d.lost--
	d.dest.strays.Add(-1)
	d.mu.Unlock()

	d.conf.log.LogAttrs(d.ctx, slog.LevelWarn, "outbox: publisher has come back after it was given up",
		slog.String("id", a.tasks[0].ID.String()), slog.String("event", a.tasks[0].Name), slog.Bool("counts", counts))
	if counts {
		outs, sum := d.judge(a, w.errs, nil)
		d.o.settleLate(d.ctx, outs)
		d.mu.Lock()
		n := d.noteLocked(a.probe, sum)
		d.mu.Unlock()
		d.tell(n)
		d.nudge()
		d.o.changed()
	}
	d.wake()
}
