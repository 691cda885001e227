package outbox

import (
	"context"
	"time"
)

// Observer is told what happens: for metrics, audits, alarms. Each function may be nil,
// and costs nothing then; a call costs some two microseconds.
//
// They are called in the course of what they tell of, from many goroutines at a time,
// with no lock held; so a slow one slows that call of Enqueue or that worker, and nobody
// else. What they get is theirs to read until they return, and not to be changed. They
// may call the outbox.
//
// None can do harm: one that panics, ends its goroutine, or has not returned after five
// seconds is logged once, at Error, and not called any more. The events are not
// affected. To be told again, make the outbox anew.
type Observer struct {
	// Enqueued is called when an event was accepted, before Enqueue, EnqueueBatch or Do
	// returns: it is durable (P1), or, with a transaction in ctx, will be when that
	// commits. ctx has the values of the call's, not its end.
	Enqueued func(ctx context.Context, t Task)

	// Attempt is called after each attempt, for each of its events, whatever came of it:
	// also for those that are released because the destination was not reached. One of
	// Delivered, Retried and Dead follows, where it applies. All four come before the
	// store knows: should the program die in between, the event is published again (P3).
	Attempt   func(a Attempt)
	Delivered func(a Attempt) // the destination has taken it
	Retried   func(a Attempt) // refused, and will be tried again
	Dead      func(a Attempt) // it is a dead letter now; without an attempt if nobody handles it

	// Dropped is called when the store has dropped n events for a reason: expired,
	// coalesced, for a quota, deleted. See [Watcher].
	Dropped func(r Reason, n uint64)

	// Buried is called when the store itself has made dead letters of n events, with no
	// attempt, so that Dead does not hear of them: for [ReasonKeyParked], as their turn came,
	// or [ReasonDamaged], as they were met. With Dead that is all that have become dead letters
	// since [New], but for those of other outboxes on the store, which have observers of their
	// own, and imported ones. Which they are [Outbox.Tasks] says, with a [Filter] of States and
	// Reason. See [Watcher].
	Buried func(r Reason, n uint64)

	// Gate is called when an outage of a destination begins, with GateShut and why, and
	// when it ends, with GateRamping or GateOpen and nil.
	Gate func(destination string, state GateState, err error)

	// Sync is called when the store has made so many records durable, and it took so long.
	// See [Watcher].
	Sync func(records uint64, took time.Duration)
}

// Attempt is what an [Observer] hears of one attempt to deliver one event.
type Attempt struct {
	Task        Task          // as claimed: Attempts are those spent before
	Destination string        // as in [DestinationStats]
	Took        time.Duration // of the call of the publisher, which all events of a batch share
	Verdict     Verdict       // what becomes of the event
	Reason      Reason        // of Bury
	Delay       time.Duration // of Retry and Release: until it is due again
	Err         error         // what the publisher returned; nil if delivered
}

// WithObserver has o told what happens. Given several times, all are told, in that order.
func WithObserver(o Observer) Option {
	return func(c *config) { c.observers = append(c.observers, &observer{Observer: o}) }
}

// enqueued tells of accepted tasks.
func (c *config) enqueued(ctx context.Context, tasks []Task) {
	for _, w := range c.observers {
		if w.Enqueued == nil {
			continue
		}
		ctx := context.WithoutCancel(ctx)
		for i := range tasks {
			w.call(hookEnqueued, func() { w.Enqueued(ctx, tasks[i]) })
		}
	}
}

// attempted tells of an attempt.
func (c *config) attempted(a Attempt) {
	for _, w := range c.observers {
		for _, told := range [...]struct {
			hook
			f    func(Attempt)
			when bool
		}{
			{hookAttempt, w.Attempt, a.Reason != ReasonUnhandled},
			{hookDelivered, w.Delivered, a.Verdict == Done},
			{hookRetried, w.Retried, a.Verdict == Retry},
			{hookDead, w.Dead, a.Verdict == Bury},
		} {
			if told.f != nil && told.when {
				w.call(told.hook, func() { told.f(a) })
			}
		}
	}
}

// gated tells of the beginning or the end of an outage.
func (c *config) gated(destination string, n *news) {
	for _, w := range c.observers {
		if w.Gate != nil {
			w.call(hookGate, func() { w.Gate(destination, n.state, n.down) })
		}
	}
}
