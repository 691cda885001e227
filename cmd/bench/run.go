package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// runner makes the measurements.
type runner struct {
	*config
	dir      string
	source   *load.Source
	meter    *machine.Meter
	progress *progress
	guard    *guard
}

// measurements is how many there are.
func (r *runner) measurements() (n int) {
	for _, w := range r.workloads {
		n += r.rounds * len(r.cases(w)) * len(r.able(w))
	}
	return n
}

// able are the subjects that can do a workload.
func (r *runner) able(w workload.Workload) (able []subject.Subject) {
	for _, s := range r.subjects {
		if s.Has(w.Needs) {
			able = append(able, s)
		}
	}
	return able
}

// leftOut says which subjects a workload is not measured with, and why; "" = none.
func (r *runner) leftOut(w workload.Workload) string {
	var names []string
	for _, s := range r.subjects {
		if !s.Has(w.Needs) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("left out of %s, for they cannot %s: %s", w.Name, w.Needs, strings.Join(names, ", "))
}

// measure measures one workload: in each round every case, in each case every
// subject, with the ceiling before and after each of them. Which subject comes
// first changes from round to round.
func (r *runner) measure(ctx context.Context, w workload.Workload) ([]*report.Row, error) {
	var rows []*report.Row
	able := r.able(w)
	for _, producers := range r.cases(w) {
		for _, s := range able {
			rows = append(rows, &report.Row{Workload: w.Name, Subject: s.Name, Producers: producers})
		}
	}
	for round := range r.rounds {
		for i, producers := range r.cases(w) {
			c := &turn{runner: r, workload: w, able: able, producers: producers, round: round}
			err := c.all(ctx, rows[i*len(able):][:len(able)])
			if err != nil {
				return rows, err
			}
		}
	}
	return rows, nil
}

// turn is one case of a workload in one round.
type turn struct {
	*runner
	workload  workload.Workload
	able      []subject.Subject
	producers int
	round     int
	raw       *machine.Raw // nil: the workload has no ceiling
}

// all measures every subject between two looks at the ceiling.
func (t *turn) all(ctx context.Context, rows []*report.Row) error {
	path := filepath.Join(t.dir, "raw")
	if t.workload.Write != nil && t.onDisk() {
		raw, err := machine.NewRaw(path, t.source.Noise(t.workload.Write(t.producers)*t.Size))
		if err != nil {
			return err
		}
		t.raw = raw
		defer os.Remove(path)
		defer raw.Close()
	}
	before, err := t.ceiling(ctx)
	if err != nil {
		return err
	}
	for i := range t.able {
		i = (i + t.round) % len(t.able)
		s := t.able[i]
		t.progress.begin(fmt.Sprintf("%s, %s, %d producers, round %d of %d", t.workload.Name, s.Name, t.producers, t.round+1, t.rounds))
		sample, err := t.one(ctx, s)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s, %s, %d producers: %w", t.workload.Name, s.Name, t.producers, err)
		}
		after, err := t.ceiling(ctx)
		if err != nil {
			return err
		}
		t.compare(s, sample, before.Add(after))
		before = after
		rows[i].Samples = append(rows[i].Samples, sample)
		t.progress.end(summary(sample))
	}
	return nil
}

// onDisk reports whether any of the subjects has its events on the disk of the folder.
func (t *turn) onDisk() bool {
	return slices.ContainsFunc(t.able, func(s subject.Subject) bool { return !s.Elsewhere })
}

// ceiling measures what the disk can do, for a quarter of a measurement.
func (t *turn) ceiling(ctx context.Context) (s machine.Syncs, err error) {
	if t.raw == nil {
		return s, nil
	}
	pprof.Do(ctx, pprof.Labels("phase", "ceiling"), func(ctx context.Context) {
		s, err = t.raw.For(ctx, t.Duration/4)
	})
	return s, err
}

// compare sets a measurement against the ceiling around it: what could be accepted
// at best, if each sync of the disk served as many events as can share one.
func (t *turn) compare(s subject.Subject, sample report.Sample, raw machine.Syncs) {
	if t.raw == nil || !s.Durable || s.Elsewhere {
		return
	}
	best := raw.PerSecond() * float64(t.workload.Write(t.producers))
	sample.Set(report.RawSyncs, raw.PerSecond())
	sample.Set(report.Ceiling, best)
	sample.Set(report.OfCeiling, sample[report.Events]/best)
}

// one makes one measurement in a folder of its own.
func (t *turn) one(ctx context.Context, s subject.Subject) (sample report.Sample, err error) {
	dir, err := os.MkdirTemp(t.dir, s.Name+"-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		rerr := discard(dir)
		if s.Discard != nil {
			rerr = errors.Join(s.Discard(dir), rerr)
		}
		if err == nil {
			err = rerr
		}
	}()
	t.guard.watch(10*t.Duration + time.Duration(t.Events)*slowEvent + hangs)
	defer t.guard.rest()
	labels := pprof.Labels("workload", t.workload.Name, "store", s.Name, "producers", strconv.Itoa(t.producers), "phase", "measure")
	pprof.Do(ctx, labels, func(ctx context.Context) {
		sample, err = t.workload.Measure(&workload.Trial{
			Ctx: ctx, Dir: dir, Subject: s, Producers: t.producers, Settings: t.Settings,
			Source: t.source, Meter: t.meter, Say: t.progress.say,
		})
	})
	return sample, err
}

// hangs is how much longer than planned a measurement may take before it counts as
// hanging.
const hangs = 3 * time.Minute

// slowEvent is how long an event of a backlog may take at most, to be stored, copied,
// delivered and checked.
const slowEvent = 300 * time.Microsecond

// discard removes a folder, and waits until the file system has, so that the next
// measurement does not pay for it.
func discard(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if parent, err := os.Open(filepath.Dir(dir)); err == nil {
		_ = parent.Sync() // not every system can
		parent.Close()
	}
	return nil
}

// summary is what the progress shows of a measurement.
func summary(s report.Sample) string {
	text := report.Events.Unit.Format(s[report.Events]) + " events/s"
	if ratio, ok := s[report.OfCeiling]; ok {
		text += fmt.Sprintf(", %.2f of the ceiling", ratio)
	}
	return text
}
