package workload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// refusals is how often each event is refused before it is taken: with the one that
// takes it, that is the default budget of attempts.
const refusals = 2

var figAttempts = report.Figure{Name: "attempts_per_second", Unit: report.Rate}

// Retry is a destination that answers, and often says no.
var Retry = Workload{
	Name: "retry",
	About: "a tenth of -n events wait; every one is refused twice and then taken, with a pause of 5 ms before it is tried again; events/s are those taken; " +
		"afterwards each must have been tried three times and delivered once, and the reopened store must be empty",
	Needs:   subject.Refusals,
	Measure: measureRetry,
	Columns: []report.Column{
		colEvents,
		{Figure: figAttempts, Title: "attempts/s"},
		{Figure: report.Total, Title: "events"},
		{Figure: figTook, Title: "in all"},
		colChecks, colPerSync, colSyncs, colDisk, colAllocs, colCPU,
	},
}

func measureRetry(t *Trial) (report.Sample, error) {
	t.Settings.Events = max(t.Settings.Events/10, 1)
	producers := load.NewProducers(t.Source, 1, batchEvents)
	q, err := t.fill(producers)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	if _, err := t.reopen(q); err != nil {
		return nil, err
	}
	t.Say("trying three times each")
	w, err := t.begin(q)
	if err != nil {
		return nil, err
	}
	tried, start := make([]atomic.Uint32, producers.Total()), time.Now()
	c := t.start(func(ctx context.Context, c *consumer) error {
		return q.Queue.(subject.Trier).Try(ctx, func(payload []byte) error {
			if _, seq := load.Peek(payload); seq < uint64(len(tried)) && tried[seq].Add(1) <= refusals {
				return subject.ErrRefused
			}
			c.see(payload)
			return nil
		})
	})
	defer c.stop()
	if err := c.await(q, producers.Total()); err != nil {
		return nil, err
	}
	took, s := time.Since(start), report.Sample{}
	if err := w.end(s, c.tally.Total()); err != nil {
		return nil, err
	}
	s.Set(figTook, took.Seconds())
	s.Set(report.Events, float64(c.tally.Total())/took.Seconds())
	s.Set(figAttempts, float64(c.tally.Total())*(refusals+1)/took.Seconds())
	if err := c.stop(); err != nil {
		return nil, err
	}
	return s, t.checkDelivered(q, c.tally, producers.Acked(), func() error {
		for seq := range tried {
			if n := tried[seq].Load(); n != refusals+1 {
				return fmt.Errorf("event %d was tried %d times, instead of %d", seq, n, refusals+1)
			}
		}
		return nil
	})
}
