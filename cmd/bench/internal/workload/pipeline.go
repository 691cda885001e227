package workload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Figures of the pipeline alone.
var (
	figAccepted  = report.Figure{Name: "accepted_per_second", Unit: report.Rate}
	figBacklog   = report.Figure{Name: "backlog_at_end", Unit: report.Count}
	figDelivery  = report.Figure{Name: "delivery_p50", Unit: report.Seconds}
	figDelivery9 = report.Figure{Name: "delivery_p99", Unit: report.Seconds}
)

// Pipeline is an outbox at work: its destination is up and quick.
var Pipeline = Workload{
	Name: "pipeline",
	About: "producers call Enqueue while Start delivers to a publisher that does nothing; events/s are those delivered; " +
		"afterwards each acknowledged event must have been delivered, once, and the reopened store must be empty",
	Cases: func(s Settings) []int {
		if s.Every {
			return s.Producers
		}
		return []int{64}
	},
	Write:   func(producers int) int { return producers },
	Measure: measurePipeline,
	Columns: []report.Column{
		colEvents, colCeiling,
		{Figure: figAccepted, Title: "accepted/s"},
		{Figure: figBacklog, Title: "backlog"},
		colChecks, colPerSync, colSyncs, colDisk, colP50, colP99,
		{Figure: figDelivery, Title: "delivered p50"},
		{Figure: figDelivery9, Title: "p99"},
		colAllocs, colCPU,
	},
}

func measurePipeline(t *Trial) (report.Sample, error) {
	q, err := t.queue()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	producers := load.NewProducers(t.Source, t.Producers, 1)
	call := func(ctx context.Context, payloads [][]byte) error { return q.Enqueue(ctx, payloads[0]) }
	c := t.consume(q)
	defer c.stop()
	if _, err := producers.For(c.ctx, t.warmUp(), call); err != nil {
		return nil, err
	}
	t.Say("measuring")
	w, err := t.begin(q)
	if err != nil {
		return nil, err
	}
	c.waits.Store(new(load.Latency))
	before := c.tally.Total()
	run, err := producers.For(c.ctx, t.Settings.Duration, call)
	if err != nil {
		return nil, err
	}
	delivered, waits := c.tally.Total()-before, c.waits.Load()
	s := report.Sample{}
	if err := w.end(s, delivered); err != nil {
		return nil, err
	}
	s.Set(report.Events, float64(delivered)/run.Took.Seconds())
	s.Set(figAccepted, float64(run.Events)/run.Took.Seconds())
	s.Set(figBacklog, float64(producers.Total()-c.tally.Total()))
	s.Set(report.P50, run.Quantile(0.50).Seconds())
	s.Set(report.P99, run.Quantile(0.99).Seconds())
	s.Set(figDelivery, load.Quantile(0.50, waits).Seconds())
	s.Set(figDelivery9, load.Quantile(0.99, waits).Seconds())

	t.Say("delivering the rest")
	if err := c.finish(q, producers.Total()); err != nil {
		return nil, err
	}
	if err := c.tally.Check(producers.Acked()); err != nil {
		return nil, fmt.Errorf("check of what was delivered: %w", err)
	}
	return s, t.check(q, make([]uint64, t.Producers))
}

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
func (t *Trial) consume(q *opened) *consumer {
	c := &consumer{tally: load.NewTally(t.Source, t.Producers), ended: make(chan struct{})}
	c.waits.Store(new(load.Latency))
	ctx, fail := context.WithCancelCause(t.Ctx)
	c.ctx = ctx
	inner, cancel := context.WithCancel(ctx)
	c.cancel = cancel
	go func() {
		defer close(c.ended)
		c.err = q.Consume(inner, func(payload []byte) {
			if m, ok := c.tally.See(payload); ok {
				c.waits.Load().Add(time.Since(m.Sent))
			}
		})
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

// finish waits until so many events have been delivered, or the queue says that
// nothing waits, and stops. The check tells whether that is right.
func (c *consumer) finish(q *opened, total uint64) error {
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
	return c.stop()
}
