package workload

import (
	"context"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Enqueue is what an application waits for when it hands over an event.
var Enqueue = Workload{
	Name: "enqueue",
	About: "producers call Enqueue, one event a call, while the destination is down and nobody drains; " +
		"afterwards the store is reopened and every acknowledged event must wait in it, whole, once",
	Cases: func(s Settings) []int { return s.Producers },
	Write: func(producers int) int { return producers },
	Measure: func(t *Trial) (report.Sample, error) {
		return accept(t, 1, func(q *opened) load.Send {
			return func(ctx context.Context, payloads [][]byte) error { return q.Enqueue(ctx, payloads[0]) }
		})
	},
	Columns: acceptColumns,
}

var acceptColumns = []report.Column{
	colEvents, colCeiling, colPerSync, colSyncs, colDisk, colRest, colP50, colP99, colAllocs, colCPU,
}

// accept measures how fast a queue accepts, and checks that it has all of it.
func accept(t *Trial, batch int, send func(q *opened) load.Send) (report.Sample, error) {
	return calls(t, batch, send, t.check)
}

// calls measures a closed loop of calls, and has check look at what was acknowledged.
func calls(t *Trial, batch int, send func(q *opened) load.Send, check func(q *opened, acked []uint64) error) (report.Sample, error) {
	q, err := t.queue()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	producers := load.NewProducers(t.Source, t.Producers, batch)
	call := send(q)
	if _, err := producers.For(t.Ctx, t.warmUp(), call); err != nil {
		return nil, err
	}
	t.Say("measuring")
	w, err := t.begin(q)
	if err != nil {
		return nil, err
	}
	run, err := producers.For(t.Ctx, t.Settings.Duration, call)
	if err != nil {
		return nil, err
	}
	s := report.Sample{}
	if err := w.end(s, run.Events); err != nil {
		return nil, err
	}
	s.Set(report.Events, float64(run.Events)/run.Took.Seconds())
	s.Set(report.P50, run.Quantile(0.50).Seconds())
	s.Set(report.P99, run.Quantile(0.99).Seconds())
	if err := t.rest(q, s, producers.Total()); err != nil {
		return nil, err
	}
	return s, check(q, producers.Acked())
}

// rest closes a durable queue, and notes what bringing the backlog to where it
// waits has cost in all: what was written meanwhile, and by Close, shared by all
// events there are.
func (t *Trial) rest(q *opened, s report.Sample, events uint64) error {
	if !t.Subject.Durable {
		return nil
	}
	t.Say("closing")
	before := t.Meter.Read()
	var err error
	t.phase("close", func(context.Context) { err = q.Close() })
	if err != nil {
		return err
	}
	if used := t.Meter.Since(before); used.HasIO && !t.Subject.Elsewhere {
		s.Set(report.RestBytes, s[report.DiskBytes]+float64(used.Disk)/float64(events))
	}
	return nil
}
