package workload

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// What a log holds at most before a checkpoint moves it to the database, less a little:
// store/bolt's bounds are 16,384 events and 8 MiB.
const (
	logEvents = 15_000
	logBytes  = 7 << 20
)

// inLog are the producers of what is in the log alone, many at a time, as events come.
const inLog = 64

// Recover is the start after a crash, with as much to read as there can be.
var Recover = Workload{
	Name: "recover",
	About: "-n events are stored and the store is closed; it is opened, and 64 producers add 15,000 events, or 7 MiB, which are in the log alone; " +
		"a copy of the folder as it is, such as SIGKILL leaves, is opened: that is the time measured, and events/s are those of the log in it; all must wait in the copy, whole and once",
	Needs:   subject.Survives,
	Measure: measureRecover,
	Columns: []report.Column{
		colEvents,
		{Figure: report.Total, Title: "events"},
		{Figure: figInLog, Title: "in the log"},
		{Figure: figCrashedLog, Title: "its bytes"},
		{Figure: figOpenCrashed, Title: "open after the crash", Spread: true},
		{Figure: figOpen, Title: "after a clean close"},
	},
}

var figInLog = report.Figure{Name: "events_in_log", Unit: report.Count}

func measureRecover(t *Trial) (report.Sample, error) {
	producers := load.NewProducers(t.Source, inLog, batchEvents)
	q, err := t.fill(producers)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	took, err := t.reopen(q)
	if err != nil {
		return nil, err
	}
	before := producers.Total()
	n := min(t.backlog(), logEvents, logBytes/(t.Settings.Size+100))
	producers.Batch(1)
	t.Say("filling the log")
	t.phase("fill", func(ctx context.Context) {
		_, err = producers.Exactly(ctx, uint64(n), func(ctx context.Context, payloads [][]byte) error { return q.Enqueue(ctx, payloads[0]) })
	})
	if err != nil {
		return nil, err
	}
	s := report.Sample{}
	s.Set(report.Total, float64(producers.Total()))
	s.Set(figInLog, float64(producers.Total()-before))
	s.Set(figOpen, took.Seconds())
	return s, t.recover(q, s, producers)
}

// recover copies the folder, opens the copy and checks it.
func (t *Trial) recover(q *opened, s report.Sample, producers *load.Producers) error {
	t.Say("copying what a crash leaves")
	dir := t.Dir + "-crashed"
	defer os.RemoveAll(dir)
	if err := t.copy(q, dir); err != nil {
		return fmt.Errorf("copy of the folder: %w", err)
	}
	if err := q.Close(); err != nil {
		return err
	}
	if size := logSize(dir); size > 0 {
		s.Set(figCrashedLog, float64(size))
	}
	crashed := *t
	crashed.Dir = dir
	t.Say("opening it")
	start := time.Now()
	again, err := crashed.queue()
	if err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	took := time.Since(start)
	defer again.Close()
	s.Set(figOpenCrashed, took.Seconds())
	s.Set(report.Events, s[figInLog]/took.Seconds())
	t.Say("checking")
	if err := crashed.compare(t.Ctx, again, producers.Acked()); err != nil {
		return fmt.Errorf("check after a crash: %w", err)
	}
	return again.Close()
}
