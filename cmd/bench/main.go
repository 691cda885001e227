// Bench measures what goutbox does on the machine and the disk it runs on, next to
// what that disk can do at most, and checks after each measurement that what was
// acknowledged is there.
//
//	go -C cmd/bench run .
//
// README.md says what each workload is, and how the comparison is kept fair.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/goutbox/goutbox/cmd/bench/internal/draw"
	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Exit statuses.
const (
	exitFailed      = 1 // a measurement or its check
	exitUsage       = 2 // a flag or a folder
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with an exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v (-help lists the flags)\n", err)
		return exitUsage
	}
	if c.plots != "" {
		if err := draw.Folder(c.plots); err != nil {
			fmt.Fprintf(stderr, "bench: -plot: %v\n", err)
			return exitUsage
		}
	}
	if err := c.connect(ctx); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitUsage
	}
	defer func() {
		if err := c.disconnect(); err != nil {
			fmt.Fprintf(stderr, "bench: %v\n", err)
		}
	}()
	dir, m, err := makeFolder(c)
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitUsage
	}
	defer os.RemoveAll(dir)
	stop, err := profile(c.cpuProfile)
	if err != nil {
		fmt.Fprintf(stderr, "bench: -cpuprofile: %v\n", err)
		return exitUsage
	}
	defer stop()

	r := &runner{
		config: c, dir: dir, source: load.NewSource(c.seed, c.Size),
		meter: m.NewMeter(), guard: &guard{stderr: stderr, clean: func() {
			os.RemoveAll(dir)
			_ = c.disconnect() // it fails if others do
		}},
	}
	err = r.all(ctx, m, newOutput(c, stdout), stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(stderr, "bench: FAILED: %v\n", err)
		return exitFailed
	}
	return 0
}

// all makes all measurements and prints them.
func (r *runner) all(ctx context.Context, m machine.Machine, out output, stderr io.Writer) error {
	r.progress = newProgress(stderr, r.measurements())
	defer r.progress.close()
	out.begin(r, m)
	began := r.meter.Read()
	var all []*report.Row
	for _, w := range r.workloads {
		out.workload(r, w)
		rows, err := r.measure(ctx, w)
		r.progress.clear()
		if err != nil {
			return err
		}
		out.rows(r, w, rows)
		all = append(all, rows...)
	}
	r.progress.clear()
	if err := r.plot(m, all, stderr); err != nil {
		return err
	}
	return out.end(others(r.meter.Since(began), r.server != nil))
}

// plot draws the rows, if plots are wanted.
func (r *runner) plot(m machine.Machine, rows []*report.Row, stderr io.Writer) error {
	if r.plots == "" {
		return nil
	}
	caption := fmt.Sprintf("%d CPUs, %s, %s %s, %s; medians of rounds (%d) of %s; bars: min and max", m.CPUs, m.FileSystem, m.System, m.Arch, m.Go, r.rounds, r.Duration)
	files, err := draw.All(r.plots, caption, r.Size, rows)
	for _, f := range files {
		fmt.Fprintf(stderr, "plot: %s\n", f)
	}
	return err
}

// profile begins a CPU profile, if one is wanted.
func profile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// others warns of company: figures of a busy machine are those of the company too.
func others(used machine.Reading, server bool) string {
	share, known := used.Others()
	switch {
	case !known:
		return ""
	case server:
		return fmt.Sprintf("other programs, the server among them if it is on this machine, used %.0f %% of the processors", 100*share)
	case share < 0.05:
		return fmt.Sprintf("other programs used %.0f %% of the processors", 100*share)
	}
	return fmt.Sprintf("OTHER PROGRAMS USED %.0f %% OF THE PROCESSORS: stop them and measure again", 100*share)
}
