package workload

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// latencyProducers is how many calls can be under way at a time in the open loop.
const latencyProducers = 64

// latencyTimes is how much longer than others it is measured: a tail wants many events,
// and at a fixed rate there are no more of them than that.
const latencyTimes = 3

// Latency is how long an event takes at the rate at which events really come.
var Latency = Workload{
	Name: "latency",
	About: "an open loop: events are due at -rate, whether earlier calls have returned or not, and Start delivers to a publisher that does nothing; " +
		"three times as long as others are measured; latencies count from the moment an event was due (no coordinated omission); raw is a write and a sync alone, at the same rate, before and after; " +
		"checked as in pipeline",
	Measure: measureLatency,
	Columns: []report.Column{
		colEvents,
		{Figure: quantile("durable", 0.5), Title: "durable p50"},
		{Figure: quantile("durable", 0.99), Title: "p99", Spread: true},
		{Figure: quantile("durable", 0.999), Title: "p99.9"},
		{Figure: quantile("durable", 1), Title: "max"},
		{Figure: quantile("publisher", 0.5), Title: "publisher p50"},
		{Figure: quantile("publisher", 0.99), Title: "p99"},
		{Figure: quantile("publisher", 0.999), Title: "p99.9"},
		{Figure: quantile("publisher", 1), Title: "max"},
		{Figure: quantile("raw", 0.5), Title: "raw p50"},
		{Figure: quantile("raw", 0.99), Title: "p99"},
		{Figure: figOverRaw, Title: "durable/raw p99", Spread: true},
		{Figure: quantile("late", 0.99), Title: "sent late p99"},
	},
}

// figOverRaw is what the log adds to the disk's own tail.
var figOverRaw = report.Figure{Name: "durable_p99_over_raw_p99", Unit: report.Ratio}

// quantile is a figure: the duration that a share q does not exceed.
func quantile(name string, q float64) report.Figure {
	column := q == 0.5 || q == 0.99 || q == 0.999 || q == 1
	return report.Figure{Name: name + "_p" + strconv.FormatFloat(100*q, 'g', 6, 64), Unit: report.Seconds, Curve: !column}
}

// curve are the shares that plots show.
var curve = []float64{0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1}

// note notes all quantiles.
func note(s report.Sample, name string, h *load.Histogram) {
	for _, q := range curve {
		s.Set(quantile(name, q), h.Quantile(q).Seconds())
	}
}

// Quantiles returns what the rounds gave for a distribution of latency: shares and
// seconds, medians of the rounds.
func Quantiles(r *report.Row, name string) (shares, seconds []float64) {
	for _, q := range curve {
		if series, ok := r.Series(quantile(name, q)); ok {
			shares, seconds = append(shares, q), append(seconds, series.Median)
		}
	}
	return shares, seconds
}

func measureLatency(t *Trial) (report.Sample, error) {
	q, err := t.queue()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	producers, raw, s := load.NewProducers(t.Source, latencyProducers, 1), load.NewHistogram(), report.Sample{}
	t.Producers = latencyProducers
	if err := t.rawLatency(raw); err != nil {
		return nil, err
	}
	if err := t.openLoop(q, producers, s); err != nil {
		return nil, err
	}
	if err := t.rawLatency(raw); err != nil {
		return nil, err
	}
	if t.inFolder() {
		note(s, "raw", raw)
		s.Set(figOverRaw, s[quantile("durable", 0.99)]/raw.Quantile(0.99).Seconds())
	}
	return s, t.check(q, make([]uint64, latencyProducers))
}

// openLoop is the measurement.
func (t *Trial) openLoop(q *opened, producers *load.Producers, s report.Sample) error {
	var deliveries atomic.Pointer[load.Histogram]
	deliveries.Store(load.NewHistogram())
	c := t.consume(q, func(m load.Mark) { deliveries.Load().Add(time.Since(m.Sent)) })
	defer c.stop()
	send := func(ctx context.Context, payloads [][]byte) error { return q.Enqueue(ctx, payloads[0]) }
	if _, err := producers.At(c.ctx, t.Settings.Rate, t.warmUp(), send); err != nil {
		return err
	}
	t.Say("measuring")
	deliveries.Store(load.NewHistogram())
	w, err := t.begin(q)
	if err != nil {
		return err
	}
	run, err := producers.At(c.ctx, t.Settings.Rate, latencyTimes*t.Settings.Duration, send)
	if err != nil {
		return err
	}
	if err := w.end(s, run.Events); err != nil {
		return err
	}
	s.Set(report.Events, float64(run.Events)/run.Took.Seconds())
	t.Say("delivering the rest")
	if err := c.finish(q, producers.Total()); err != nil {
		return err
	}
	note(s, "durable", run.Calls)
	note(s, "publisher", deliveries.Load())
	note(s, "late", run.Late)
	return delivered(c.tally, producers.Acked())
}

// rawLatency adds to a histogram how long a write of one payload and its sync take, at
// the rate of the events, one at a time.
func (t *Trial) rawLatency(h *load.Histogram) error {
	if !t.inFolder() {
		return nil
	}
	t.Say("the disk alone")
	path := t.Dir + "-raw"
	raw, err := machine.NewRaw(path, t.Source.Noise(t.Settings.Size))
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer raw.Close()
	interval := time.Duration(float64(time.Second) / t.Settings.Rate)
	return load.Every(t.Ctx, interval, latencyTimes*t.Settings.Duration/2, func(time.Time) error {
		start := time.Now()
		if err := raw.One(); err != nil {
			return err
		}
		h.Add(time.Since(start))
		return nil
	})
}
