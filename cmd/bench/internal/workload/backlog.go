package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Figures of the backlog. Heaps are over that of the empty store.
var (
	figFill        = report.Figure{Name: "fill_events_per_second", Unit: report.Rate}
	figOpenCold    = report.Figure{Name: "open_cold", Unit: report.Seconds}
	figOpenCrashed = report.Figure{Name: "open_crashed", Unit: report.Seconds}
	figCrashedLog  = report.Figure{Name: "log_bytes_crashed", Unit: report.Bytes}
	figHeapEmpty   = report.Figure{Name: "heap_empty", Unit: report.Memory}
	figHeapFill    = report.Figure{Name: "heap_over_empty_filling", Unit: report.Memory}
	figHeapFillAll = report.Figure{Name: "heap_over_empty_filling_with_garbage", Unit: report.Memory}
	figHeapWait    = report.Figure{Name: "heap_over_empty_waiting", Unit: report.Memory}
	figHeapOpen    = report.Figure{Name: "heap_over_empty_reopened", Unit: report.Memory}
	figHeapDrain   = report.Figure{Name: "heap_over_empty_draining", Unit: report.Memory}
	figHeapDrainAl = report.Figure{Name: "heap_over_empty_draining_with_garbage", Unit: report.Memory}
	figHeapDrained = report.Figure{Name: "heap_over_empty_drained", Unit: report.Memory}
	figRested      = report.Figure{Name: "folder_bytes_rested", Unit: report.Bytes}
	figGaveBack    = report.Figure{Name: "rested_after", Unit: report.Seconds} // when its size changed last; none if it did not
)

// Backlog is a long outage from its beginning to its end, and what it costs besides
// time: memory, disk, and the next start of the program.
var Backlog = Workload{
	Name: "backlog",
	About: "-n events are stored while nobody drains; a copy of the folder as it is, such as SIGKILL leaves, is opened, then the store is closed and opened; then Drain delivers all to a publisher that does nothing; " +
		"heaps are live after a collection, over that of the empty store; afterwards each event must have been delivered, once, and the reopened store must be empty",
	Measure: measureBacklog,
	Columns: []report.Column{
		colEvents,
		{Figure: report.Total, Title: "events"},
		{Figure: figFill, Title: "fill/s"},
		{Figure: figTook, Title: "drain"},
		{Figure: figOpen, Title: "open"},
		{Figure: figOpenCold, Title: "cold"},
		{Figure: figOpenCrashed, Title: "crashed"},
		{Figure: figHeapFill, Title: "heap filling"},
		{Figure: figHeapFillAll, Title: "(+ garbage)"},
		{Figure: figHeapWait, Title: "waiting"},
		{Figure: figHeapOpen, Title: "reopened"},
		{Figure: figHeapDrain, Title: "draining"},
		{Figure: figHeapDrainAl, Title: "(+ garbage)"},
		{Figure: figHeapDrained, Title: "drained"},
		{Figure: figFull, Title: "folder before"},
		{Figure: figDrained, Title: "drained"},
		{Figure: figRested, Title: "later"},
	},
}

func measureBacklog(t *Trial) (report.Sample, error) {
	n := t.backlog()
	producers, tally := load.NewProducers(t.Source, 1, batchEvents), load.NewTally(t.Source, 1)
	tally.Expect(0, uint64(n)) // what notes the deliveries grows with them: it does not count
	q, err := t.queue()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	b := &backlogTrial{Trial: t, q: q, s: report.Sample{}, empty: machine.Collected()}
	b.s.Set(figHeapEmpty, float64(b.empty))
	for _, step := range []func() error{
		func() error { return b.fill(producers, n) },
		func() error { return b.crash(producers.Total()) },
		b.open,
		func() error { return b.drain(producers, tally) },
		b.rest,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.s, t.check(q, make([]uint64, 1))
}

// backlogTrial is a measurement under way.
type backlogTrial struct {
	*Trial
	q     *opened
	s     report.Sample
	empty uint64 // heap of the empty store
}

// over notes a heap.
func (b *backlogTrial) over(f report.Figure, heap uint64) {
	b.s.Set(f, float64(heap)-float64(b.empty))
}

func (b *backlogTrial) fill(producers *load.Producers, n int) error {
	b.Say("storing the backlog")
	var run load.Run
	var took time.Duration
	var err error
	stop := machine.WatchHeap()
	for i := range heaps {
		share := uint64(n*(i+1)/heaps) - producers.Total()
		b.phase("fill", func(ctx context.Context) { run, err = producers.Exactly(ctx, share, b.q.EnqueueBatch) })
		if err != nil {
			stop()
			return err
		}
		took += run.Took
		b.over(heapAt(i), machine.Collected())
	}
	heap := stop()
	b.s.Set(report.Total, float64(n))
	b.s.Set(figFill, float64(n)/took.Seconds())
	b.over(figHeapFill, heap.Live)
	b.over(figHeapFillAll, heap.Peak)
	b.over(figHeapWait, machine.Collected())
	return nil
}

// heaps is how often the heap is looked at while the backlog grows; filling stands
// still meanwhile.
const heaps = 10

// heapAt is what is live after so many tenths and one of the backlog.
func heapAt(i int) report.Figure {
	return report.Figure{Name: fmt.Sprintf("heap_over_empty_at_%d%%", 100*(i+1)/heaps), Unit: report.Memory, Curve: true}
}

// Heaps returns how the heap has grown with the backlog: events and bytes, medians of
// the rounds.
func Heaps(r *report.Row) (events, bytes []float64) {
	total, _ := r.Series(report.Total)
	for i := range heaps {
		if s, ok := r.Series(heapAt(i)); ok {
			events = append(events, total.Median*float64(i+1)/heaps)
			bytes = append(bytes, s.Median)
		}
	}
	return events, bytes
}

// crash opens a copy of the folder of the store that is still open: all is there that
// SIGKILL would leave, with what the log has on top of the database.
func (b *backlogTrial) crash(total uint64) error {
	if !b.inFolder() {
		return nil
	}
	b.Say("copying what a crash leaves")
	dir := b.Dir + "-crashed"
	defer os.RemoveAll(dir)
	if err := b.copy(b.q, dir); err != nil {
		return fmt.Errorf("copy of the folder: %w", err)
	}
	b.s.Set(figCrashedLog, float64(logSize(dir)))
	start := time.Now()
	q, err := b.Subject.Open(dir)
	if err != nil {
		return fmt.Errorf("open what a crash leaves: %w", err)
	}
	b.s.Set(figOpenCrashed, time.Since(start).Seconds())
	counts, err := q.Counts(b.Ctx)
	if err == nil && counts.Waiting != total {
		err = fmt.Errorf("after a crash %d events wait, instead of %d", counts.Waiting, total)
	}
	return errors.Join(err, q.Close())
}

// open closes the store and opens it, from a warm page cache and, if that is wanted,
// from a cold one.
func (b *backlogTrial) open() error {
	b.Say("reopening")
	if b.Settings.Cold && b.inFolder() {
		if err := b.q.Close(); err != nil {
			return err
		}
		if err := machine.DropCaches(); err != nil {
			return fmt.Errorf("-cold: %w", err)
		}
		start := time.Now()
		again, err := b.queue()
		if err != nil {
			return err
		}
		b.s.Set(figOpenCold, time.Since(start).Seconds())
		*b.q = *again
	}
	took, err := b.reopen(b.q)
	if err != nil {
		return err
	}
	if b.Subject.Durable {
		b.s.Set(figOpen, took.Seconds())
	}
	if b.inFolder() {
		b.s.Set(figFull, float64(folderSize(b.Dir)))
	}
	b.over(figHeapOpen, machine.Collected())
	return nil
}

func (b *backlogTrial) drain(producers *load.Producers, tally *load.Tally) error {
	stop := machine.WatchHeap()
	err := b.Trial.drain(b.q, b.s, producers, tally)
	heap := stop()
	if err != nil {
		return err
	}
	b.over(figHeapDrain, heap.Live)
	b.over(figHeapDrainAl, heap.Peak)
	b.over(figHeapDrained, machine.Collected())
	return nil
}

// How long rest waits.
const (
	restMost  = 10 * time.Second        // in all
	restKept  = 2500 * time.Millisecond // with no change, as long as there is much to give back: store/bolt begins after one second, and if it is disturbed, two more
	restSmall = 24 << 20                // what is not worth waiting for: a database that never shrinks and a log with its spares
)

// rest waits for a store to give space back, which it may do when it has drained: until
// half of the folder is gone, or it is small, and has kept its size for the time of a
// measurement; for restKept if it gives nothing back.
func (b *backlogTrial) rest() error {
	if !b.inFolder() {
		return nil
	}
	b.Say("waiting for the disk to get smaller")
	size := folderSize(b.Dir)
	b.s.Set(figDrained, float64(size))
	enough := max(size/2, restSmall)
	kept := func() time.Duration {
		if size <= enough {
			return b.Settings.Duration
		}
		return max(b.Settings.Duration, restKept)
	}
	began := time.Now()
	for since := began; time.Since(since) < kept() && time.Since(began) < restMost; {
		if err := b.pause(min(max(b.Settings.Duration/50, time.Millisecond), 20*time.Millisecond)); err != nil {
			return err
		}
		if now := folderSize(b.Dir); now != size {
			size, since = now, time.Now()
			b.s.Set(figGaveBack, since.Sub(began).Seconds())
		}
	}
	b.s.Set(figRested, float64(size))
	return nil
}
