package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Limiter says when the next attempt may be made. Wait blocks until then, or until ctx
// ends. The Limiter of golang.org/x/time/rate is one.
type Limiter interface {
	Wait(ctx context.Context) error
}

// WithLimiter has l asked before each call of a publisher: once for each event, or once
// for each batch, for it is calls that destinations count. The wait comes before the
// attempt begins, so the publish timeout does not run. One Start, StartBatch or Drain
// asks for one call at a time, and claims hardly anything ahead, so that alarms still
// leave before the telemetry that waits; all that share l share its rate. [Outbox.Do] does
// not ask: it runs in the caller's own goroutine.
//
// A limiter that fails or panics is passed over for that call, and that is logged, the
// first time. One that blocks holds everything up, until the stop: its context ends then,
// and if it does not obey within a second it is left behind.
func WithLimiter(l Limiter) Option {
	return func(c *config) { c.limiter = l }
}

// limited is what a dispatcher knows of its limiter. The limiter is asked by a worker
// that has nothing in hand yet, one at a time: so what waits for the limiter is still
// in the queue, from where an outage, a pause or the stop can give it back.
type limited struct {
	patient   context.Context // of the limiter's waits: ends at the stop
	impatient context.CancelFunc

	// Guarded by the dispatcher's mu.
	atLimiter bool // a worker is there
	admitted  bool // the next call may be made
	complaint bool // a failure was logged
}

func (d *dispatcher) startLimiter() {
	if d.conf.limiter != nil {
		d.patient, d.impatient = context.WithCancel(d.ctx)
	}
}

func (d *dispatcher) stopLimiter() {
	if d.impatient != nil {
		d.impatient()
	}
}

// admittedLocked reports whether the limiter has let the next call through.
func (d *dispatcher) admittedLocked() bool { return d.admitted || d.conf.limiter == nil }

// admitLocked asks the limiter, without the lock.
func (d *dispatcher) admitLocked() {
	d.atLimiter = true
	d.mu.Unlock()
	began, returned := time.Now(), false
	defer func() {
		d.mu.Lock()
		d.atLimiter, d.admitted = false, true
		if time.Since(began) > horizon {
			d.claimedTooMuchLocked()
		}
		if !returned { // the limiter has ended the goroutine: this worker is no more
			d.workers--
			d.callWorkerLocked()
			d.wake()
		}
	}()
	err := d.waitForLimiter()
	returned = true
	if err == nil || d.patient.Err() != nil {
		return
	}
	d.mu.Lock()
	first := !d.complaint
	d.complaint = true
	d.mu.Unlock()
	if first {
		d.conf.log.LogAttrs(d.ctx, slog.LevelError, "outbox: limiter failed, going on without it",
			slog.String("error", err.Error()))
	}
}

// claimedTooMuchLocked gives back all but the next call's, as after a burst that the
// limiter has ended: what has become due since may be more urgent.
func (d *dispatcher) claimedTooMuchLocked() {
	if d.queue.n == 0 {
		return
	}
	at := d.queue.chunks[0].at
	tasks, probe := d.queue.take(d.batch, d.bytes, nil)
	again := d.queue.n > 0
	d.releaseQueueLocked()
	d.queue.add(tasks, probe, at) // it has lingered already
	if again {
		d.wake()
	}
}

// waitForLimiter turns a panic into an error.
func (d *dispatcher) waitForLimiter() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("limiter panicked: %v", v)
		}
	}()
	return d.conf.limiter.Wait(d.patient)
}
