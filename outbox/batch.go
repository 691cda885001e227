package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// WithBatch says what one call of a [BatchPublisher] gets: at most so many events with
// so many bytes of payloads, unless the first alone has more; 100 and 1 MiB by default.
// Four batches and one for each worker, [WithConcurrency], are in memory at most.
//
// With a linger, a batch that is not full waits so long for more to come, counted from
// its first event; one that is full goes at once. By default none waits: what is due
// goes. At most an hour. Neither a probe, which is one event, nor a Drain nor a stop
// waits: the stop gives back what has not begun. An event that waits is in flight: its
// LatestOnly successor does not replace it any more, and the next of its key waits too.
func WithBatch(maxEvents, maxBytes int, linger time.Duration) Option {
	return func(c *config) { c.batchEvents, c.batchBytes, c.linger = maxEvents, maxBytes, linger }
}

// BatchPublisher delivers several events with one call. It returns nil if all are
// delivered; else one error, or nil, for each event, of the same kinds as those of
// a [Publisher]. Any other number of errors is an error of the whole batch, with
// all of them in it: so []error{Unavailable(err)} says that none got through. So is
// a panic. What is said of a Publisher and its context holds here too; the publish
// timeout is that of the batch.
type BatchPublisher func(ctx context.Context, events []Event) []error

// StartBatch is [Outbox.Start] with a publisher that takes several events at a
// time: as many as are due, within the bounds of [WithBatch]. Of the events with one
// key a batch has one at most, and the next is in another, later one (P4).
func (o *Outbox) StartBatch(ctx context.Context, p BatchPublisher) error {
	if p == nil {
		return errNoPublisher
	}
	return o.newDispatcher(ctx, &o.config, p.all, o.batchEvents).run()
}

// all publishes tasks with one call.
func (p BatchPublisher) all(ctx context.Context, tasks []Task, errs []error) {
	events := make([]Event, len(tasks))
	for i := range tasks {
		events[i] = tasks[i].Event
	}
	got, err := p.contained(ctx, events)
	switch {
	case err == nil && got == nil:
		return
	case err == nil && len(got) == len(tasks):
		copy(errs, got)
		return
	case err == nil:
		err = fmt.Errorf("batch publisher returned %d errors for %d events: %w", len(got), len(tasks), joined(got))
	}
	for i := range errs {
		errs[i] = err
	}
}

// joined is errors.Join, but never nil.
func joined(errs []error) error {
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.New("all of them nil")
}

// contained calls p and turns a panic into an error.
func (p BatchPublisher) contained(ctx context.Context, events []Event) (errs []error, err error) {
	defer func() {
		if v := recover(); v != nil {
			errs, err = nil, &panicError{v, debug.Stack()}
		}
	}()
	return p(ctx, events), nil
}
