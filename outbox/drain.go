package outbox

import (
	"context"
	"fmt"
	"strings"
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

// plus adds other counts.
func (n *Drained) plus(other Drained) {
	n.Delivered += other.Delivered
	n.Retried += other.Retried
	n.Dead += other.Dead
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
	n := d.total
	return n, o.drained(ctx, &n, err, d.drainOutage())
}

// drainOutage returns why the destination could not be reached; nil if it could.
func (d *dispatcher) drainOutage() error {
	d.mu.Lock()
	defer d.mu.Unlock() // a publisher that was given up may still come back and note one
	return d.outage
}

// drained completes the counts of a drain and says what its error is.
func (o *Outbox) drained(ctx context.Context, n *Drained, err, outage error) error {
	switch {
	case err != nil:
	case outage != nil && strings.Contains(classify(outage).text, ErrUnavailable.Error()):
		err = outage
	case outage != nil:
		err = fmt.Errorf("%w: %w", ErrUnavailable, outage)
	default:
		err = ctx.Err()
	}
	st, statsErr := o.store.Stats(context.WithoutCancel(ctx))
	n.Waiting = int(st.Pending)
	if err == nil {
		err = statsErr
	}
	return err
}
