package workload

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Settings are what the user chose.
type Settings struct {
	Size      int           // bytes of a payload
	Duration  time.Duration // of one measurement
	Events    int           // of a backlog
	Rate      float64       // events per second of an open loop
	Cold      bool          // have the system forget its page cache, and open once more
	Producers []int
	Every     bool // all workloads with producers take all of Producers, not enqueue alone
}

// Trial is one measurement: of one subject, with so many producers, in a folder of
// its own.
type Trial struct {
	Ctx       context.Context
	Dir       string
	Subject   subject.Subject
	Producers int
	Settings  Settings
	Source    *load.Source
	Meter     *machine.Meter
	Say       func(stage string) // shows what is going on
}

// queue opens the subject's queue.
func (t *Trial) queue() (*opened, error) {
	q, err := t.Subject.Open(t.Dir)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return &opened{Queue: q}, nil
}

// unsynced opens the queue to store what is not measured; Close makes it durable.
func (t *Trial) unsynced() (*opened, error) {
	if t.Subject.OpenUnsynced == nil {
		return t.queue()
	}
	q, err := t.Subject.OpenUnsynced(t.Dir)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return &opened{Queue: q}, nil
}

// inFolder reports whether the events are in files of the trial's folder.
func (t *Trial) inFolder() bool { return t.Subject.Durable && !t.Subject.Elsewhere }

// opened is a queue that may be closed more than once, as a defer does after all
// has gone well.
type opened struct {
	subject.Queue
	closed bool
}

// Close closes the queue once.
func (o *opened) Close() error {
	if o.closed {
		return nil
	}
	o.closed = true
	if err := o.Queue.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// reopen closes the queue and opens it again, and says how long the opening took. A
// subject that is not durable goes on as it is, and took no time.
func (t *Trial) reopen(q *opened) (time.Duration, error) {
	if !t.Subject.Durable {
		return 0, nil
	}
	if err := q.Close(); err != nil {
		return 0, err
	}
	runtime.GC()
	start := time.Now()
	again, err := t.queue()
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	*q = *again
	return took, nil
}

// check opens the queue again and compares what waits there with what was
// acknowledged and not delivered: the first waiting[p] events of each producer p.
// Then it closes the queue.
func (t *Trial) check(q *opened, waiting []uint64) (err error) {
	t.Say("checking")
	t.phase("check", func(ctx context.Context) {
		err = t.compare(ctx, q, waiting)
	})
	if err != nil {
		return fmt.Errorf("check after reopening: %w", err)
	}
	return q.Close()
}

func (t *Trial) compare(ctx context.Context, q *opened, waiting []uint64) error {
	if _, err := t.reopen(q); err != nil {
		return err
	}
	var total uint64
	for _, n := range waiting {
		total += n
	}
	tally := load.NewTally(t.Source, len(waiting))
	counts, err := q.Counts(ctx)
	if err == nil {
		err = q.List(ctx, func(payload []byte) { tally.See(payload) })
	}
	if err != nil {
		return err
	}
	err = tally.Check(waiting)
	if counts.Waiting != total || counts.Lost != 0 {
		err = errors.Join(err, fmt.Errorf("the store counts %d that wait and %d lost, instead of %d and none", counts.Waiting, counts.Lost, total))
	}
	return err
}

// phase calls f with a label for profiles, which goroutines started by f inherit.
func (t *Trial) phase(name string, f func(ctx context.Context)) {
	pprof.Do(t.Ctx, pprof.Labels("phase", name), f)
}

// warmUp is how long producers run before a measurement: long enough for files to
// be made and buffers to grow.
func (t *Trial) warmUp() time.Duration { return t.Settings.Duration / 5 }

// window is a measurement under way: what is read at its beginning.
type window struct {
	t      *Trial
	q      *opened
	counts subject.Counts
	used   machine.Reading
}

// begin starts measuring, on a collected heap.
func (t *Trial) begin(q *opened) (window, error) {
	runtime.GC()
	counts, err := q.Counts(t.Ctx)
	return window{t, q, counts, t.Meter.Read()}, err
}

// end notes what all workloads have in common, for so many events.
func (w *window) end(s report.Sample, events uint64) error {
	used := w.t.Meter.Since(w.used)
	now, err := w.q.Counts(w.t.Ctx)
	if err != nil {
		return err
	}
	n, seconds := float64(events), used.Took.Seconds()
	s.Set(report.Total, n)
	s.Set(report.Allocs, float64(used.Allocs)/n)
	s.Set(report.HeapBytes, float64(used.Heap)/n)
	if used.CPU > 0 {
		s.Set(report.CPU, used.CPU.Seconds()/n)
	}
	if !w.t.Subject.Durable {
		return nil
	}
	s.Set(report.Checkpoints, float64(now.Checkpoints-w.counts.Checkpoints))
	if syncs := now.Syncs - w.counts.Syncs; syncs > 0 {
		s.Set(report.Syncs, float64(syncs)/seconds)
		s.Set(report.PerSync, float64(now.Records-w.counts.Records)/float64(syncs))
	}
	bytes := used.Disk
	if !used.HasIO || w.t.Subject.Elsewhere {
		bytes = now.Bytes - w.counts.Bytes
	}
	s.Set(report.DiskBytes, float64(bytes)/n)
	return nil
}
