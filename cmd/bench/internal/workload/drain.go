package workload

import (
	"context"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Figures of the drain alone.
var (
	figOpen    = report.Figure{Name: "open", Unit: report.Seconds}
	figTook    = report.Figure{Name: "drain", Unit: report.Seconds}
	figFull    = report.Figure{Name: "folder_bytes_full", Unit: report.Bytes}
	figDrained = report.Figure{Name: "folder_bytes_drained", Unit: report.Bytes}
)

// Drain is what happens when the destination is back after an outage.
var Drain = Workload{
	Name: "drain",
	About: "a backlog is stored and the store closed; then it is opened (from a warm page cache) and Drain delivers all to a publisher that does nothing; " +
		"afterwards each event must have been delivered, once, and the reopened store must be empty",
	Measure: measureDrain,
	Columns: []report.Column{
		colEvents,
		{Figure: report.Total, Title: "events"},
		{Figure: figOpen, Title: "open"},
		{Figure: figTook, Title: "drain"},
		colChecks, colDisk,
		{Figure: figFull, Title: "folder before"},
		{Figure: figDrained, Title: "after"},
		colAllocs, colCPU,
	},
}

func measureDrain(t *Trial) (report.Sample, error) {
	producers := load.NewProducers(t.Source, 1, batchEvents)
	q, err := t.fill(producers)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	s := report.Sample{}
	took, err := t.reopen(q)
	if err != nil {
		return nil, err
	}
	if t.Subject.Durable {
		s.Set(figOpen, took.Seconds())
	}
	if t.inFolder() {
		s.Set(figFull, float64(folderSize(t.Dir)))
	}
	if err := t.drain(q, s, producers, load.NewTally(t.Source, 1)); err != nil {
		return nil, err
	}
	if err := t.check(q, make([]uint64, 1)); err != nil {
		return nil, err
	}
	if t.inFolder() {
		s.Set(figDrained, float64(folderSize(t.Dir)))
	}
	return s, nil
}

// backlog is how many events are stored.
func (t *Trial) backlog() int {
	if most := t.Subject.Most; most > 0 {
		return min(t.Settings.Events, most)
	}
	return t.Settings.Events
}

// fill stores the backlog, which has to be opened again before anything is measured. All that this starts is labelled as such in profiles.
func (t *Trial) fill(producers *load.Producers) (q *opened, err error) {
	t.Say("storing the backlog")
	t.phase("fill", func(ctx context.Context) {
		if q, err = t.unsynced(); err != nil {
			return
		}
		if _, err = producers.Exactly(ctx, uint64(t.backlog()), q.EnqueueBatch); err != nil {
			q.Close()
		}
	})
	return q, err
}

// drain is the measurement.
func (t *Trial) drain(q *opened, s report.Sample, producers *load.Producers, tally *load.Tally) error {
	t.Say("draining")
	w, err := t.begin(q)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := q.Drain(t.Ctx, func(payload []byte) { tally.See(payload) }); err != nil {
		return err
	}
	took := time.Since(start)
	if err := w.end(s, tally.Total()); err != nil {
		return err
	}
	s.Set(figTook, took.Seconds())
	s.Set(report.Events, float64(tally.Total())/took.Seconds())
	return delivered(tally, producers.Acked())
}
