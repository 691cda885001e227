package workload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Figures of the outage alone.
var (
	figDownStore  = report.Figure{Name: "store_bytes_while_down", Unit: report.Bytes}
	figDownDevice = report.Figure{Name: "device_bytes_while_down", Unit: report.Bytes}
	figDownCPU    = report.Figure{Name: "cpu_while_down", Unit: report.Ratio}
	figProbes     = report.Figure{Name: "attempts_while_down", Unit: report.Count}
	figFirst      = report.Figure{Name: "back_to_first_delivery", Unit: report.Seconds}
)

// wakes is how often the application says during an outage that the link may be up: an
// outage would else have a probe or two in the time of a measurement.
const wakes = 20

// Outage is a destination that is down while a backlog waits, and then is back.
var Outage = Workload{
	Name: "outage",
	About: "-n events wait in the database, and every attempt finds the destination down, for the time of a measurement, in which Wake is called 20 times; then it is back; " +
		"events/s are those delivered from then on; the store must not have written a byte while it was down (by its own count), and each event must have been delivered, once, at its first real attempt",
	Needs:   subject.Outages,
	Measure: measureOutage,
	Columns: []report.Column{
		colEvents,
		{Figure: report.Total, Title: "events"},
		{Figure: figProbes, Title: "attempts down"},
		{Figure: figDownStore, Title: "store B down"},
		{Figure: figDownDevice, Title: "device B down"},
		{Figure: figDownCPU, Title: "CPUs down"},
		{Figure: figFirst, Title: "back to first"},
		{Figure: figTook, Title: "to all"},
		colChecks, colDisk, colAllocs, colCPU,
	},
}

func measureOutage(t *Trial) (report.Sample, error) {
	producers := load.NewProducers(t.Source, 1, batchEvents)
	q, err := t.fill(producers)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	if _, err := t.reopen(q); err != nil { // the backlog is in the database, all of it
		return nil, err
	}
	o := &outage{Trial: t, q: q, s: report.Sample{}}
	o.down.Store(true)
	before, err := q.Counts(t.Ctx)
	if err != nil {
		return nil, err
	}
	used := t.Meter.Read()
	c := t.start(func(ctx context.Context, c *consumer) error {
		return q.Queue.(subject.Trier).Try(ctx, func(payload []byte) error { return o.publish(c, payload) })
	})
	defer c.stop()
	if err := o.endure(before, used); err != nil {
		return nil, err
	}
	if err := o.back(c, producers.Total()); err != nil {
		return nil, err
	}
	return o.s, t.checkDelivered(q, c.tally, producers.Acked(), func() error { return nil })
}

// outage is a measurement under way.
type outage struct {
	*Trial
	q     *opened
	s     report.Sample
	down  atomic.Bool
	tries atomic.Uint64 // while it was down
	first atomic.Int64  // when the first event was delivered, by the clock of time.Now
}

func (o *outage) publish(c *consumer, payload []byte) error {
	if o.down.Load() {
		o.tries.Add(1)
		return subject.ErrUnavailable
	}
	o.first.CompareAndSwap(0, time.Now().UnixNano())
	c.see(payload)
	return nil
}

// endure waits while the destination is down, and checks what that has cost.
func (o *outage) endure(before subject.Counts, used machine.Reading) error {
	o.Say("the destination is down")
	for range wakes {
		if err := o.pause(o.Settings.Duration / wakes); err != nil {
			return err
		}
		o.q.Queue.(subject.Waker).Wake()
	}
	now, err := o.q.Counts(o.Ctx)
	if err != nil {
		return err
	}
	cost := o.Meter.Since(used)
	if cost.HasIO {
		o.s.Set(figDownDevice, float64(cost.Disk))
	}
	if cost.CPU > 0 {
		o.s.Set(figDownCPU, cost.CPU.Seconds()/cost.Took.Seconds())
	}
	o.s.Set(figProbes, float64(o.tries.Load()))
	if o.tries.Load() == 0 {
		return fmt.Errorf("nothing was tried while the destination was down")
	}
	if o.Subject.Durable {
		o.s.Set(figDownStore, float64(now.Bytes-before.Bytes))
		if n := now.Bytes - before.Bytes; n > 0 {
			return fmt.Errorf("the store has written %d bytes while the destination was down", n)
		}
	}
	if now.Lost > 0 {
		return fmt.Errorf("%d events were given up while the destination was down", now.Lost)
	}
	return nil
}

// back measures what happens when the destination is back.
func (o *outage) back(c *consumer, total uint64) error {
	o.Say("the destination is back")
	w, err := o.begin(o.q)
	if err != nil {
		return err
	}
	start := time.Now()
	o.down.Store(false)
	o.q.Queue.(subject.Waker).Wake()
	if err := c.await(o.q, total); err != nil {
		return err
	}
	took := time.Since(start)
	if err := w.end(o.s, total); err != nil {
		return err
	}
	o.s.Set(figFirst, time.Unix(0, o.first.Load()).Sub(start).Seconds())
	o.s.Set(figTook, took.Seconds())
	o.s.Set(report.Events, float64(total)/took.Seconds())
	return c.stop()
}
