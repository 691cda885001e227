package workload

import (
	"context"
	"fmt"

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
	Cases:   some(64),
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
	return flow(t, flowing{
		send: func(q *opened) load.Send {
			return func(ctx context.Context, payloads [][]byte) error { return q.Enqueue(ctx, payloads[0]) }
		},
		see:   func(load.Mark) {},
		check: func() error { return nil },
	})
}

// flowing is what a pipeline is like.
type flowing struct {
	send  func(q *opened) load.Send
	see   func(m load.Mark) // is called in the publisher
	check func() error      // of what see has seen
}

// flow measures a pipeline.
func flow(t *Trial, f flowing) (report.Sample, error) {
	q, err := t.queue()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	producers, call := load.NewProducers(t.Source, t.Producers, 1), f.send(q)
	c := t.consume(q, f.see)
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
	count, waits := c.tally.Total()-before, c.waits.Load()
	s := report.Sample{}
	if err := w.end(s, count); err != nil {
		return nil, err
	}
	s.Set(report.Events, float64(count)/run.Took.Seconds())
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
	return s, t.checkDelivered(q, c.tally, producers.Acked(), f.check)
}

// checkDelivered checks that all that was acknowledged was delivered, once, that
// nothing is left, and whatever else there is to check.
func (t *Trial) checkDelivered(q *opened, tally *load.Tally, acked []uint64, other func() error) error {
	if err := delivered(tally, acked); err != nil {
		return err
	}
	if err := other(); err != nil {
		return err
	}
	return t.check(q, make([]uint64, len(acked)))
}

func delivered(tally *load.Tally, acked []uint64) error {
	if err := tally.Check(acked); err != nil {
		return fmt.Errorf("check of what was delivered: %w", err)
	}
	return nil
}
