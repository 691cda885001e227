package outbox

import (
	"context"
	"errors"
	"fmt"
)

// Drained counts what a [Outbox.Drain] has done.
type Drained struct {
	Delivered int // events that the publisher has taken
	Retried   int // attempts that were refused, and the event will be retried
	Dead      int // events that have become dead letters
	Waiting   int // events that wait in the store now, due or not
}

// add counts outcomes.
func (n *Drained) add(outs []Outcome) {
	for i := range outs {
		switch outs[i].Verdict {
		case Done:
			n.Delivered++
		case Retry:
			n.Retried++
		case Bury:
			n.Dead++
		}
	}
}

// Drain publishes what is due, until nothing is, and returns: for programs that
// run for a moment. It works as [Outbox.Start] does, with the same options, but
// waits for no delay, no retry and no outage.
//
// Errors: [ErrUnavailable] around the cause as soon as the destination cannot be
// reached; that of ctx when it ends, after the attempts under way have finished;
// [ErrPaused]; [ErrInvalid] for a nil publisher; those of the store. The counts come with every
// error.
func (o *Outbox) Drain(ctx context.Context, p Publisher) (Drained, error) {
	if p == nil {
		return Drained{}, errNoPublisher
	}
	d := o.newDispatcher(ctx, &o.config, p.each, 1)
	d.drain = true
	err := d.run()
	d.mu.Lock()
	outage := d.outage // a publisher that was given up may still come back and note one
	d.mu.Unlock()
	switch {
	case err != nil:
	case outage != nil && errors.Is(outage, ErrUnavailable):
		err = outage
	case outage != nil:
		err = fmt.Errorf("%w: %w", ErrUnavailable, outage)
	default:
		err = ctx.Err()
	}
	n := d.total
	st, statsErr := o.store.Stats(d.ctx)
	n.Waiting = int(st.Pending)
	if err == nil {
		err = statsErr
	}
	return n, err
}
