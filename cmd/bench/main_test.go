package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// bench runs the program in a folder of its own, and fails the test if it leaves
// anything there.
func bench(t *testing.T, ctx context.Context, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	status = run(ctx, append([]string{"-dir", dir, "-allow-tmpfs"}, args...), &out, &errs)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in the folder: %v %v", left, err)
	}
	return status, out.String(), errs.String()
}

func TestRun_EveryWorkloadOnEveryStore(t *testing.T) {
	status, stdout, stderr := bench(t, t.Context(), "-stores", "bolt,mem", "-duration", "50ms", "-rounds", "1", "-n", "3000", "-producers", "1,16", "-o", "json")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	var doc struct {
		Machine struct {
			FileSystem string `json:"file_system"`
		}
		Results []struct {
			Workload, Store string
			Producers       int
			Figures         map[string]struct{ Median, Min, Max float64 }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	want, ceiling := 0, map[string]bool{}
	for _, w := range workloads {
		cases := 1
		if w.Cases != nil {
			cases = 2
		}
		ceiling[w.Name] = w.Write != nil
		for _, s := range subjects[:2] {
			if s.Has(w.Needs) {
				want += cases
			}
		}
	}
	if len(doc.Results) != want {
		t.Errorf("%d results, want %d", len(doc.Results), want)
	}
	for _, r := range doc.Results {
		if f := r.Figures["events_per_second"]; f.Median <= 0 || f.Min > f.Median || f.Median > f.Max {
			t.Errorf("%s %s %d: events/s %+v", r.Workload, r.Store, r.Producers, f)
		}
		if _, ok := r.Figures["ratio_to_ceiling"]; ok != (r.Store == "bolt" && ceiling[r.Workload]) {
			t.Errorf("%s %s: compared with the ceiling: %v", r.Workload, r.Store, ok)
		}
	}
	if n := strings.Count(stderr, "\n"); n != len(doc.Results) {
		t.Errorf("%d lines of progress, want one for each of %d measurements:\n%s", n, len(doc.Results), stderr)
	}
}

func TestRun_Outputs(t *testing.T) {
	for output, want := range map[string][]string{
		"table": {"machine: ", "go: go", "disk: ", "note: FEWER THAN 3 ROUNDS", "batch: one producer", "of ceiling", "checked: all"},
		"bench": {"Unit events_per_second better=higher", "BenchmarkBatch/store=bolt/producers=1 ", "\n# batch: "},
	} {
		status, stdout, stderr := bench(t, t.Context(), "-workloads", "batch", "-duration", "20ms", "-rounds", "2", "-o", output)
		if status != 0 {
			t.Fatalf("exit status %d\n%s", status, stderr)
		}
		for _, s := range want {
			if !strings.Contains(stdout, s) {
				t.Errorf("-o %s prints no %q:\n%s", output, s, stdout)
			}
		}
	}
}

func TestRun_Plots(t *testing.T) {
	dir := t.TempDir() + "/new/plots"
	status, _, stderr := bench(t, t.Context(), "-workloads", "enqueue,latency,backlog", "-producers", "1,4", "-duration", "20ms", "-rounds", "1", "-n", "500", "-plot", dir)
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	for _, name := range []string{"throughput", "latency", "heap"} {
		for _, ext := range []string{".svg", ".png"} {
			if info, err := os.Stat(dir + "/" + name + ext); err != nil || info.Size() < 2000 {
				t.Errorf("%v", err)
			}
			if !strings.Contains(stderr, name+ext) {
				t.Errorf("nobody says that there is %s%s", name, ext)
			}
		}
	}
}

// forgetful loses, doubles or damages the seventh event.
type forgetful struct {
	subject.Queue
	n    int
	harm func(payload []byte, keep func([]byte) error) error
}

func (f *forgetful) Enqueue(ctx context.Context, payload []byte) error {
	keep := func(b []byte) error { return f.Queue.Enqueue(ctx, b) }
	if f.n++; f.n == 7 {
		return f.harm(payload, keep)
	}
	return keep(payload)
}

func TestRun_FailsWhenAnAcknowledgedEventIsNotThere(t *testing.T) {
	for want, harm := range map[string]func([]byte, func([]byte) error) error{
		"1 acknowledged events are missing": func([]byte, func([]byte) error) error { return nil },
		"1 events are there twice": func(b []byte, keep func([]byte) error) error {
			_ = keep(b)
			return keep(b)
		},
		"is damaged": func(b []byte, keep func([]byte) error) error {
			b[len(b)-1] ^= 1
			return keep(b)
		},
	} {
		old := subjects
		subjects = []subject.Subject{{Name: "forgetful", Open: func(dir string) (subject.Queue, error) {
			q, err := subject.Mem.Open(dir)
			return &forgetful{Queue: q, harm: harm}, err
		}}}
		for _, workload := range []string{"enqueue", "pipeline", "latency"} {
			status, _, stderr := bench(t, t.Context(), "-workloads", workload, "-producers", "1", "-duration", "10ms", "-rounds", "1")
			if status != exitFailed || !strings.Contains(stderr, want) {
				t.Errorf("%s: exit status %d, and no %q in:\n%s", workload, status, want, stderr)
			}
		}
		subjects = old
	}
}

// restless writes while its destination is down: by each count a byte more.
type restless struct {
	subject.Queue
	subject.Trier
	subject.Waker
	bytes *atomic.Uint64
}

func (r *restless) Counts(ctx context.Context) (subject.Counts, error) {
	c, err := r.Queue.Counts(ctx)
	c.Bytes = r.bytes.Add(1)
	return c, err
}

func TestRun_FailsWhenAnOutageIsNotFree(t *testing.T) {
	old := subjects
	defer func() { subjects = old }()
	restive := subject.Bolt
	restive.Name = "restless"
	restive.Open = func(dir string) (subject.Queue, error) {
		q, err := subject.Bolt.Open(dir)
		if err != nil {
			return nil, err
		}
		return &restless{q, q.(subject.Trier), q.(subject.Waker), new(atomic.Uint64)}, nil
	}
	subjects = []subject.Subject{restive}
	status, _, stderr := bench(t, t.Context(), "-workloads", "outage", "-duration", "20ms", "-rounds", "1", "-n", "100")
	if want := "has written 1 bytes while the destination was down"; status != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("exit status %d, and no %q in:\n%s", status, want, stderr)
	}
}

func TestRun_InterruptCleansUp(t *testing.T) {
	for _, w := range workloads {
		workload := w.Name
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		start := time.Now()
		status, _, stderr := bench(t, ctx, "-workloads", workload, "-duration", "1h", "-n", "100000000")
		cancel()
		if status != exitInterrupted || !strings.Contains(stderr, "interrupted") {
			t.Errorf("%s: exit status %d\n%s", workload, status, stderr)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s to end", workload, took)
		}
	}
}

func TestRun_UsageErrors(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"-nonsense", "-nonsense"},
		{"extra", `unexpected argument "extra"`},
		{"-workloads enqueue,dequeue", `"dequeue" is none of enqueue,batch,do,pipeline,latency,keys,tx,retry,outage,recover,drain,backlog`},
		{"-stores sqlite", `"sqlite" is none of bolt,mem,postgres`},
		{"-stores postgres", "postgres is measured on a PostgreSQL server: name one with -dsn"},
		{"-stores postgres -dsn postgres://nobody@127.0.0.1:1/none?connect_timeout=5", "-dsn: failed to connect"},
		{"-stores postgres -dsn nonsense", "-dsn: "},
		{"-stores bolt -dsn postgres://localhost/none", "-dsn: nothing that was chosen"},
		{"-producers 1,0", `-producers: "0"`},
		{"-producers 1,,2", `-producers: ""`},
		{"-size 27", "-size: 27"},
		{"-size 16777217", "-size: 16777217"},
		{"-size 16777216", "-size: enqueue would write"},
		{"-duration 1us", "-duration: 1µs"},
		{"-duration soon", `"soon"`},
		{"-peers sqlite", "-peers: "},
		{"-rate 0", "-rate: 0"},
		{"-rate NaN", "-rate: NaN"},
		{"-rounds 0", "-rounds: 0"},
		{"-n 0", "-n: 0"},
		{"-o xml", `-o: "xml"`},
		{"-quick -full", "-quick and -full"},
		{"-plot " + file, "-plot: "},
		{"-dir " + file, "is a file"},
		{"-dir " + file + "/below", "-dir: "},
		{"-dir /does/not/exist", "no such file"},
		{"-dir . -cpuprofile /does/not/exist/p", "-cpuprofile: "},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), strings.Fields(c.args), &stdout, &stderr)
		if status != exitUsage || !strings.Contains(stderr.String(), c.want) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: exit status %d, want one line with %q, got:\n%s", c.args, status, c.want, stderr.String())
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args     string
		duration time.Duration
		n        int
		every    bool
	}{
		{"", quickDuration, quickEvents, false},
		{"-quick", quickDuration, quickEvents, false},
		{"-full", fullDuration, fullEvents, true},
		{"-full -n 5 -duration 1s", time.Second, 5, true},
		{"-producers 8", quickDuration, quickEvents, true},
		{"-full -producers 8", fullDuration, fullEvents, true},
	} {
		got, err := parse(strings.Fields(c.args), new(bytes.Buffer))
		if err != nil || got.Duration != c.duration || got.Events != c.n || got.Every != c.every {
			t.Errorf("%q: %+v %v", c.args, got, err)
		}
	}
}

func TestRun_HelpListsTheFlags(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"-help"}, &stdout, &stderr); status != 0 || !strings.Contains(stdout.String(), "-workloads") {
		t.Errorf("exit status %d\n%s%s", status, stdout.String(), stderr.String())
	}
}
