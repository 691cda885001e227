package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/server"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// config is what the command line says.
type config struct {
	workload.Settings
	workloads  []workload.Workload
	subjects   []subject.Subject
	rounds     int
	dir        string
	allowTmpfs bool
	full       bool
	output     string
	seed       uint64
	cpuProfile string
	plots      string
	dsn        string
	server     *server.Server // that of dsn
}

// Defaults of -quick and -full. A quick run takes less than a minute on a slow disk,
// and shows figures as they are in the first second; a full one includes the
// checkpoints of a longer backlog.
const (
	quickDuration = 400 * time.Millisecond
	quickEvents   = 100_000
	fullDuration  = 5 * time.Second
	fullEvents    = 1_000_000

	quickProducers = "1,8,64,256"
	fullProducers  = "1,8,64,256,1024"
)

const usage = `bench measures what goutbox does on this machine and this disk.

    go -C cmd/bench run . [flags]

`

// parse reads the command line. Its errors are for the user, on one line.
func parse(args []string, stdout io.Writer) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	names := f.String("workloads", list(workloads, workloadName), "what to measure, by commas")
	stores := f.String("stores", subjects[0].Name, "stores to measure, by commas, of "+list(subjects, subjectName))
	rivals := f.String("peers", "", "contenders of other projects to measure in the same run, by commas, or all; "+aboutPeers())
	f.StringVar(&c.dsn, "dsn", "", "the PostgreSQL server of those that need one, postgres://user@host/database; they work in a schema of their own, and drop it")
	producers := f.String("producers", quickProducers, "numbers of producers, by commas; "+fullProducers+" with -full; unless they are given, or -full, most workloads take fewer")
	f.Float64Var(&c.Rate, "rate", 1000, "events per second of latency")
	f.IntVar(&c.Size, "size", 256, "bytes of a payload")
	f.DurationVar(&c.Duration, "duration", quickDuration, "of one measurement; 5s with -full")
	f.IntVar(&c.rounds, "rounds", 3, "rounds; figures are medians of them")
	f.StringVar(&c.dir, "dir", "", "folder to work in, on the disk to measure; a temporary one in it is used (default: the current folder, or that for temporary files)")
	f.BoolVar(&c.allowTmpfs, "allow-tmpfs", false, "measure in a folder that is in memory, too")
	f.IntVar(&c.Events, "n", quickEvents, "events of the backlog of drain, backlog, outage and recover; 1000000 with -full")
	f.BoolVar(&c.Cold, "cold", false, "backlog opens the store from a cold page cache, too: Linux, as root; it is that of all programs")
	quick := f.Bool("quick", false, "less than a minute; this is the default")
	f.BoolVar(&c.full, "full", false, "longer measurements, some twenty minutes in all")
	f.StringVar(&c.output, "o", "table", "output: table, json, or bench, which benchstat reads")
	f.Uint64Var(&c.seed, "seed", 1, "of the payloads' noise")
	f.StringVar(&c.plots, "plot", "", "folder for plots, as SVG and PNG: throughput by producers, latency, bytes per event, heap over backlog")
	f.StringVar(&c.cpuProfile, "cpuprofile", "", "file for a CPU profile; its labels are workload, store, producers and phase")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, usage)
			f.SetOutput(stdout)
			f.PrintDefaults()
		}
		return nil, err
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if *quick && c.full {
		return nil, errors.New("-quick and -full exclude each other")
	}
	if c.full && !given["duration"] {
		c.Duration = fullDuration
	}
	if c.full && !given["n"] {
		c.Events = fullEvents
	}
	if c.full && !given["producers"] {
		*producers = fullProducers
	}
	c.Every = c.full || given["producers"]
	if err := c.choose(*names, *stores, *rivals, *producers); err != nil {
		return nil, err
	}
	return c, c.validate()
}

// choose reads the flags that are lists.
func (c *config) choose(names, stores, rivals, producers string) (err error) {
	if c.workloads, err = pick("-workloads", names, workloads, workloadName); err != nil {
		return err
	}
	if c.subjects, err = pick("-stores", stores, subjects, subjectName); err != nil {
		return err
	}
	switch {
	case rivals == "":
	case len(peers) == 0:
		return errors.New("-peers: " + aboutPeers())
	case rivals == "all": // that there is a server for
		for _, p := range peers {
			if p.On == nil || c.dsn != "" {
				c.subjects = append(c.subjects, p)
			}
		}
	default:
		picked, err := pick("-peers", rivals, peers, subjectName)
		if err != nil {
			return err
		}
		c.subjects = append(c.subjects, picked...)
	}
	for _, s := range strings.Split(producers, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > maxProducers {
			return fmt.Errorf("-producers: %q is not a number from 1 to %d", s, maxProducers)
		}
		c.Producers = append(c.Producers, n)
	}
	return nil
}

// aboutPeers says which there are.
func aboutPeers() string {
	if len(peers) == 0 {
		return "this program was built without them: go -C cmd/bench run -tags peers . -peers all"
	}
	return "of " + list(peers, subjectName)
}

// Bounds of the flags.
const (
	maxProducers = 100_000
	maxSize      = 16 << 20 // WithMaxPayload's default
	maxWrite     = 1 << 30  // of the ceiling
	maxRate      = 1_000_000
)

func (c *config) validate() error {
	if err := c.needsServer(); err != nil {
		return err
	}
	switch {
	case c.Size < load.MinSize || c.Size > maxSize:
		return fmt.Errorf("-size: %d is not from %d to %d bytes", c.Size, load.MinSize, maxSize)
	case c.Duration < time.Millisecond:
		return fmt.Errorf("-duration: %s is less than 1ms", c.Duration)
	case !(c.Rate >= 1 && c.Rate <= maxRate):
		return fmt.Errorf("-rate: %g is not from 1 to %d", c.Rate, maxRate)
	case c.rounds < 1:
		return fmt.Errorf("-rounds: %d is less than 1", c.rounds)
	case c.Events < 1:
		return fmt.Errorf("-n: %d is less than 1", c.Events)
	case c.output != "table" && c.output != "json" && c.output != "bench":
		return fmt.Errorf("-o: %q is not table, json or bench", c.output)
	}
	for _, w := range c.workloads {
		for _, producers := range c.cases(w) {
			if w.Write != nil && w.Write(producers)*c.Size > maxWrite {
				return fmt.Errorf("-size: %s would write %d bytes at a time, which is more than %d", w.Name, w.Write(producers)*c.Size, maxWrite)
			}
		}
	}
	return nil
}

// cases are the numbers of producers that a workload is measured with.
func (c *config) cases(w workload.Workload) []int {
	if w.Cases == nil {
		return []int{1}
	}
	return w.Cases(c.Settings)
}

func workloadName(w workload.Workload) string { return w.Name }
func subjectName(s subject.Subject) string    { return s.Name }

// list joins the names of all that can be chosen.
func list[T any](all []T, name func(T) string) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = name(one)
	}
	return strings.Join(names, ",")
}

// pick finds what a flag names, in the flag's order.
func pick[T any](flag, names string, all []T, name func(T) string) (picked []T, err error) {
next:
	for _, want := range strings.Split(names, ",") {
		for _, one := range all {
			if name(one) == strings.TrimSpace(want) {
				picked = append(picked, one)
				continue next
			}
		}
		return nil, fmt.Errorf("%s: %q is none of %s", flag, want, list(all, name))
	}
	return picked, nil
}
