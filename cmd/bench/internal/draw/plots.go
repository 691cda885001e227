package draw

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// throughput is that of enqueue by producers, under its ceiling.
func throughput(rows []*report.Row, size int) *plot.Plot {
	p := byProducers(rows, report.Events, fmt.Sprintf("enqueue: events/s that are durable, %d bytes each", size), "events/s")
	if p == nil {
		return nil
	}
	var best plotter.XYs
	for _, producers := range counts(rows) {
		var all []float64
		for _, r := range rows {
			if s, ok := r.Series(report.Ceiling); ok && r.Workload == workload.Enqueue.Name && r.Producers == producers {
				all = append(all, s.Median)
			}
		}
		if len(all) > 0 {
			slices.Sort(all)
			best = append(best, plotter.XY{X: float64(producers), Y: all[len(all)/2]})
		}
	}
	add(p, curve{name: "ceiling: a sync for all producers' events, and nothing else", points: best, color: gray, dashed: true})
	room(&p.Y, 1.3, 8)
	return p
}

// bytesPerEvent is what the device is given, in enqueue, with what Close writes.
func bytesPerEvent(rows []*report.Row, size int) *plot.Plot {
	p := byProducers(rows, report.RestBytes, "enqueue: bytes written to the device per event, with what Close writes", "bytes/event")
	if p == nil {
		return nil
	}
	all := counts(rows)
	add(p, curve{name: "payload", color: gray, dashed: true, points: plotter.XYs{
		{X: float64(all[0]), Y: float64(size)}, {X: float64(all[len(all)-1]), Y: float64(size)},
	}})
	p.Legend.Left, p.Legend.XOffs = false, -p.Legend.XOffs
	room(&p.Y, 1.3, 3)
	return p
}

// byProducers has a curve of a figure of enqueue for each subject.
func byProducers(rows []*report.Row, figure report.Figure, title, unit string) *plot.Plot {
	p := sheet(title, "producers", unit)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	drawn := false
	for i, name := range subjects(rows, workload.Enqueue.Name) {
		c := curve{name: name, color: colorOf(i), dots: true}
		for _, r := range rows {
			s, ok := r.Series(figure)
			if ok && s.Min > 0 && r.Workload == workload.Enqueue.Name && r.Subject == name {
				c.points = append(c.points, plotter.XY{X: float64(r.Producers), Y: s.Median})
				c.low, c.high = append(c.low, s.Min), append(c.high, s.Max)
			}
		}
		drawn = drawn || len(c.points) > 0
		add(p, c)
	}
	if !drawn {
		return nil
	}
	var ticks []float64
	for _, n := range counts(rows) {
		ticks = append(ticks, float64(n))
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = fixed(ticks), logTicks{plain}
	room(&p.X, 1.1, 1.1)
	return p
}

// counts are the numbers of producers of enqueue.
func counts(rows []*report.Row) (all []int) {
	for _, r := range rows {
		if r.Workload == workload.Enqueue.Name {
			all = append(all, r.Producers)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// latency has distributions: how many take no longer than that.
func latency(rows []*report.Row, _ int) *plot.Plot {
	p := sheet("latency at a fixed rate, from the moment an event was due", "", "share that took no longer")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks{seconds}
	p.Y.Tick.Marker = plot.ConstantTicks{
		{Value: nines(0), Label: "0"}, {Value: nines(0.5), Label: "50 %"}, {Value: nines(0.9), Label: "90 %"}, {Value: nines(0.99), Label: "99 %"},
		{Value: nines(0.999), Label: "99.9 %"}, {Value: nines(0.9999), Label: "99.99 %"}, {Value: nines(1), Label: "all"},
	}
	drawn := false
	for i, name := range subjects(rows, workload.Latency.Name) {
		for _, r := range rows {
			if r.Workload != workload.Latency.Name || r.Subject != name {
				continue
			}
			drawn = true
			add(p, curve{name: name + ": durable", color: colorOf(i), points: distribution(r, "durable")})
			add(p, curve{name: name + ": at the publisher", color: colorOf(i), dashed: true, points: distribution(r, "publisher")})
			if i == 0 {
				add(p, curve{name: "the disk alone: a write and its sync", color: gray, points: distribution(r, "raw")})
			}
		}
	}
	if !drawn {
		return nil
	}
	p.Y.Min, p.Y.Max = 0, nines(1)
	return p
}

func distribution(r *report.Row, name string) (points plotter.XYs) {
	shares, durations := workload.Quantiles(r, name)
	for i, q := range shares {
		if durations[i] > 0 {
			points = append(points, plotter.XY{X: durations[i], Y: nines(q)})
		}
	}
	return points
}

// nines spreads the tail: 90 % is 1, 99 % is 2; all is a little above the last.
func nines(share float64) float64 {
	if share >= 1 {
		return 4.5
	}
	return -math.Log10(1 - share)
}

// heap is what is live while a backlog grows.
func heap(rows []*report.Row, _ int) *plot.Plot {
	p := sheet("backlog: live heap over that of the empty store, while it fills", "events that wait", "MiB")
	drawn := false
	for i, name := range subjects(rows, workload.Backlog.Name) {
		for _, r := range rows {
			if r.Workload != workload.Backlog.Name || r.Subject != name {
				continue
			}
			c := curve{name: name, color: colorOf(i), dots: true}
			events, bytes := workload.Heaps(r)
			for j := range events {
				c.points = append(c.points, plotter.XY{X: events[j], Y: max(bytes[j], 0) / (1 << 20)})
			}
			drawn = drawn || len(c.points) > 0
			add(p, c)
		}
	}
	if !drawn {
		return nil
	}
	p.X.Min, p.Y.Min = 0, 0
	p.Y.Max = max(p.Y.Max*1.3, 1)
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(evenTicks), plot.TickerFunc(evenTicks)
	return p
}
