//go:build linux

package bolt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// This file runs programs under strace.

// life is one process of the recorded program.
type life struct {
	seed  uint64
	steps int
	end   string // "close": cleanly; else it just ends
	kill  string // when SIGKILL comes: see killedAt; "": it does not
}

// recording is what was recorded, and where.
type recording struct {
	root      string // the folder that the programs had
	traces    string // one file for each process, in the order of their names
	processes int
	events    []event
}

var straceFlags = []string{"-f", "--seccomp-bpf", "-qq", "-xx", "-s", "8388608", "--signal=none", "-e", "trace=" + traced}

// needStrace skips the test where system calls cannot be recorded.
func needStrace(t *testing.T) {
	t.Helper()
	out, err := exec.Command("strace", append(slices.Clone(straceFlags), "-o", os.DevNull, "true")...).CombinedOutput()
	if err == nil {
		return
	}
	why := fmt.Sprintf("\n*** POWER CUTS ARE NOT TESTED: strace (5.3 or newer) does not work here: %v\n%s"+
		"*** apt-get install strace, and allow ptrace (in a container: --cap-add SYS_PTRACE)\n", err, out)
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// scratch returns a new folder in memory: what the files are on makes no difference
// to what is recorded, and syncs are fast there.
func scratch(t *testing.T) string {
	t.Helper()
	const shm, enough = "/dev/shm", 1 << 30
	var room syscall.Statfs_t
	if err := syscall.Statfs(shm, &room); err != nil || room.Bavail*uint64(room.Bsize) < enough {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "goutbox-powercut-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// strace runs a child of this test binary and records what it does. The trace is one
// file more in traces.
func (rec *recording) strace(t *testing.T, child string, env ...string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	rec.processes++
	args := append(slices.Clone(straceFlags), "-o", rec.trace(rec.processes), exe)
	cmd := exec.Command("strace", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+child, "GOUTBOX_TEST_ROOT="+rec.root, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr // standard output goes nowhere: it is in the trace
	require.NoError(t, cmd.Run(), "%s", &stderr)
}

func (rec *recording) trace(process int) string {
	return filepath.Join(rec.traces, fmt.Sprintf("%04d", process))
}

// record records the lives of a store, from before its first.
func record(t *testing.T, lives []life) *recording {
	t.Helper()
	rec := newRecording(t)
	tracer := newTracer(rec.root)
	for _, l := range lives {
		from := len(tracer.events)
		rec.strace(t, "powercut", fmt.Sprintf("GOUTBOX_TEST_LIFE=%d", l.seed),
			fmt.Sprintf("GOUTBOX_TEST_STEPS=%d", l.steps), "GOUTBOX_TEST_END="+l.end)
		require.NoError(t, tracer.readFile(rec.trace(rec.processes)))
		if l.kill != "" {
			n := l.killedAt(tracer.events[from:])
			require.NoError(t, os.WriteFile(rec.trace(rec.processes)+killSuffix, []byte(strconv.Itoa(n)), 0o600))
			require.NoError(t, rec.kill(tracer, from+n))
		}
	}
	rec.events = tracer.events
	return rec
}

// killSuffix is that of a file which says how many events of a trace there are
// before the process was killed.
const killSuffix = ".kill"

// killedAt says when a process is killed, by the number of its events.
func (l life) killedAt(events []event) int {
	open := slices.IndexFunc(events, func(e event) bool { return e.kind == evFact })
	r := rand.New(rand.NewPCG(l.seed, 9))
	var when func(event) bool // right after the first such event
	from := 0
	switch l.kill {
	case "open": // while it makes the store, or recovers
		return 1 + r.IntN(open)
	case "folder": // the store's folder is there, and may not be after a power cut
		when = func(e event) bool { return e.kind == evMkdir && e.path == storeFolder }
	case "names": // the same of the log's
		when = func(e event) bool { return e.kind == evMkdir && e.path == logFolder }
	case "meta": // a transaction of bbolt
		when, from = isMeta, open+r.IntN((len(events)-open)/2)
	case "log": // records, and not just a baseline
		when = func(e event) bool { return e.kind == evWrite && strings.HasSuffix(e.path, ".wal") && len(e.data) > 300 }
		from = open + r.IntN((len(events)-open)/2)
	case "recycle": // a segment has become a spare, but not for sure
		when = func(e event) bool {
			return e.kind == evRename && strings.HasSuffix(e.to, ".spare") && strings.HasSuffix(e.path, ".wal")
		}
		from = open
	}
	if when != nil {
		if i := slices.IndexFunc(events[from:], when); i >= 0 {
			return from + i + 1
		}
	}
	return open + 1 + r.IntN(len(events)-open-1) // at work
}

// kill makes a recording that of a process which was killed after so many events: what
// it did later is forgotten, and undone in the folder. Nothing else is lost, for the
// page cache survives the process. So the next process can be recorded, whatever the
// moment was.
func (rec *recording) kill(t *tracer, n int) error {
	img := t.cutOff(n)
	if err := os.RemoveAll(rec.root); err != nil {
		return err
	}
	return img.write(rec.root)
}

// cutOff forgets all events but n, and returns the files as they were then.
func (t *tracer) cutOff(n int) image {
	t.events = append(t.events[:n:n], event{kind: evDeath})
	d := newDisk()
	for _, e := range t.events {
		d.apply(e)
	}
	clear(t.nodes)
	for dir, f := range d.folders {
		for name, id := range f.now {
			if id != aFolder {
				t.nodes[path.Join(dir, name)], t.names[id] = id, path.Join(dir, name)
			}
		}
	}
	return d.cut(cut{seed: 1, under: "."}) // nothing is lost
}

// keepOnFailure keeps the traces of a test that has failed: they are not the same
// twice, so nobody could look at what went wrong otherwise.
func (rec *recording) keepOnFailure(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			if kept, err := os.MkdirTemp("", "goutbox-powercut-"); err == nil {
				err = os.CopyFS(kept, os.DirFS(rec.traces))
				t.Logf("traces are in %s (%v); look at them again with GOUTBOX_POWERCUT=%s:%s", kept, err, rec.root, kept)
			}
		}
	})
}

// readTraces reads the traces of processes that ran one after the other.
func readTraces(dir string, t *tracer) ([]event, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, one := range files {
		name, from := filepath.Join(dir, one.Name()), len(t.events)
		if strings.HasSuffix(name, killSuffix) {
			continue
		}
		if err := t.readFile(name); err != nil {
			return nil, err
		}
		if kept, err := os.ReadFile(name + killSuffix); err == nil {
			n, err := strconv.Atoi(string(kept))
			if err != nil {
				return nil, err
			}
			t.cutOff(from + n)
		}
	}
	return t.events, nil
}

func (t *tracer) readFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
