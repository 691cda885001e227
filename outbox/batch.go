package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// What one call of a BatchPublisher gets at most.
const (
	maxBatchEvents = 100
	maxBatchBytes  = 1 << 20 // of payloads, unless the first alone has more
)

// BatchPublisher delivers several events with one call. It returns nil if all are
// delivered; else one error, or nil, for each event, of the same kinds as those of
// a [Publisher]. Any other number of errors is an error of the whole batch, with
// all of them in it: so []error{Unavailable(err)} says that none got through. So is
// a panic. What is said of a Publisher and its context holds here too; the publish
// timeout is that of the batch.
type BatchPublisher func(ctx context.Context, events []Event) []error

// StartBatch is [Outbox.Start] with a publisher that takes several events at a
// time: as many as are due, up to 100 and up to 1 MiB of payloads; it does not wait
// for more to come. Of the events with one key a batch has one at most (P4).
func (o *Outbox) StartBatch(ctx context.Context, p BatchPublisher) error {
	if p == nil {
		return errNoPublisher
	}
	return o.newDispatcher(ctx, &o.config, p.all, maxBatchEvents).run()
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
