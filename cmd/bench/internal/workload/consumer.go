package workload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
)

// consumer is a Consume under way.
type consumer struct {
	ctx   context.Context // ends with the trial's, or when Consume has failed
	tally *load.Tally
	waits atomic.Pointer[load.Latency] // from the call of a producer to the publisher

	cancel context.CancelFunc // ends Consume
	ended  chan struct{}      // closed when Consume has returned
	err    error              // of Consume, when it has returned
}

// consume delivers in a goroutine, which ends with stop.
// see is called in the publisher, with each event once.
func (t *Trial) consume(q *opened, see func(m load.Mark)) *consumer {
	return t.start(func(ctx context.Context, c *consumer) error {
		return q.Consume(ctx, func(payload []byte) {
			if m, ok := c.see(payload); ok {
				see(m)
			}
		})
	})
}

// see notes a delivery.
func (c *consumer) see(payload []byte) (load.Mark, bool) {
	m, ok := c.tally.See(payload)
	if ok {
		c.waits.Load().Add(time.Since(m.Sent))
	}
	return m, ok
}

// start runs what delivers in a goroutine, which ends with stop.
func (t *Trial) start(run func(ctx context.Context, c *consumer) error) *consumer {
	c := &consumer{tally: load.NewTally(t.Source, t.Producers), ended: make(chan struct{})}
	c.waits.Store(new(load.Latency))
	ctx, fail := context.WithCancelCause(t.Ctx)
	c.ctx = ctx
	inner, cancel := context.WithCancel(ctx)
	c.cancel = cancel
	go func() {
		defer close(c.ended)
		c.err = run(inner, c)
		if c.err != nil {
			fail(fmt.Errorf("consume: %w", c.err))
		}
	}()
	return c
}

// stop ends Consume and returns its error.
func (c *consumer) stop() error {
	c.cancel()
	<-c.ended
	return c.err
}

// patience is how long nothing may be delivered while something waits.
const patience = 30 * time.Second

// finish waits for what await does, and stops.
func (c *consumer) finish(q *opened, total uint64) error {
	if err := c.await(q, total); err != nil {
		return err
	}
	return c.stop()
}

// await waits until so many events have been delivered, or the queue says that
// nothing waits. The check tells whether that is right.
func (c *consumer) await(q *opened, total uint64) error {
	last, since := c.tally.Total(), time.Now()
	for c.tally.Total() < total {
		select {
		case <-time.After(time.Millisecond):
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		if now := c.tally.Total(); now != last {
			last, since = now, time.Now()
		}
		quiet := time.Since(since)
		if quiet > patience {
			return fmt.Errorf("%d of %d acknowledged events were delivered, and none for %s", last, total, patience)
		}
		if quiet < patience/100 {
			continue
		}
		counts, err := q.Counts(c.ctx)
		if err != nil {
			return err
		}
		if counts.Waiting == 0 {
			break
		}
	}
	return nil
}
