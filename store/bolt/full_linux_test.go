package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// smallDisk mounts a file system with so much room, and unmounts it at the end, even
// if a test that failed has left something open there.
func smallDisk(t *testing.T, kind string, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	var err error
	switch kind {
	case "tmpfs":
		err = syscall.Mount("goutbox", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	case "ext4":
		if os.Geteuid() != 0 {
			t.Skip("mounting a small file system needs root")
		}
		img := filepath.Join(t.TempDir(), "img")
		require.NoError(t, os.WriteFile(img, nil, 0o600))
		require.NoError(t, os.Truncate(img, bytes))
		for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", img}, {"mount", "-o", "loop", img, dir}} {
			out, cerr := exec.Command(args[0], args[1:]...).CombinedOutput()
			if err = cerr; err != nil {
				err = fmt.Errorf("%s: %w: %s", args[0], err, out)
				break
			}
		}
	}
	if err != nil {
		t.Skipf("mounting a small file system needs root, and for ext4 mkfs.ext4 and loop devices: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// A flood is how a disk is filled.
type flood struct {
	payload int
	delayed int // one of so many waits for an hour
	tried   int // one of so many is buried, another one retried, before the disk is full
	options []bolt.Option
}

var floods = map[string]flood{
	"log":      {payload: 100, options: []bolt.Option{bolt.WithSegmentBytes(1 << 20)}},
	"database": {payload: 1000, options: []bolt.Option{bolt.WithSegmentBytes(256 << 10), bolt.WithOverlay(256, 1024)}},
	"pinned":   {payload: 300, delayed: 9, tried: 5, options: []bolt.Option{bolt.WithSegmentBytes(256 << 10)}},
	"large":    {payload: 50_000, options: []bolt.Option{bolt.WithSegmentBytes(1 << 20), bolt.WithOverlay(16, 64)}},
}

// fill accepts events until there is no room, and returns how many.
func (c flood) fill(s *bolt.Store) (accepted int, err error) {
	ctx := context.Background()
	for err == nil {
		list := tasks(accepted, 8)
		for i := range list {
			list[i].Payload = make([]byte, c.payload)
			if c.delayed > 0 && (accepted+i)%c.delayed == 0 {
				list[i].Delay = time.Hour
			}
		}
		if err = s.Create(ctx, list); err == nil {
			accepted += len(list)
		}
		if err != nil || c.tried == 0 || accepted%(8*c.tried) != 0 {
			continue
		}
		got, cerr := s.Claim(ctx, outbox.ClaimRequest{Max: 2, Lease: time.Minute})
		if cerr != nil {
			return accepted, cerr
		}
		for i, task := range got.Tasks {
			out := outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Bury, Reason: "no"}
			if i == 1 {
				out.Verdict, out.Delay = outbox.Retry, time.Hour
			}
			if err := s.Settle(ctx, []outbox.Outcome{out}); err != nil && !errors.Is(err, outbox.ErrDiskFull) {
				return accepted, err
			}
		}
	}
	if errors.Is(err, outbox.ErrDiskFull) {
		err = nil
	}
	return accepted, err
}

// child is what this test binary does when it is started by a test of the full disk.
// It says how far it came and dies without closing the store.
func child(verb, kind, dir string) error {
	c := floods[kind]
	s, err := bolt.Open(dir, append(c.options, quiet)...)
	if err != nil {
		return err
	}
	n := 0
	switch verb {
	case "fill":
		n, err = c.fill(s)
	case "drain":
		n, err = deliverSome(s, 300)
	}
	if err == nil {
		fmt.Println(n)
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return err
}

const childOfFullDisk = "GOUTBOX_TEST_FULL_DISK"

func init() {
	if args := strings.Fields(os.Getenv(childOfFullDisk)); len(args) == 3 {
		fmt.Println("error:", child(args[0], args[1], args[2]))
		os.Exit(1)
	}
}

func runChild(t *testing.T, args ...string) int {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childOfFullDisk+"="+strings.Join(args, " "))
	out, err := cmd.Output()
	require.Error(t, err, "it was killed")
	first, _, _ := bufio.NewReader(strings.NewReader(string(out))).ReadLine()
	n, err := strconv.Atoi(string(first))
	require.NoError(t, err, "child said %q", out)
	return n
}

// deliverSome delivers at least so many of those that are due, if there are, and
// returns how many were, durably. What was settled in the moment in which the store
// learns that the disk is full may come back, and is delivered again.
func deliverSome(s *bolt.Store, most int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for idle := false; ; {
		got, err := s.Claim(ctx, outbox.ClaimRequest{Max: 50, Lease: time.Minute})
		if err != nil {
			return 0, err
		}
		var outs []outbox.Outcome
		for _, task := range got.Tasks {
			outs = append(outs, outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Done})
		}
		if err := settleFull(s, outs...); err != nil {
			return 0, err
		}
		if err := s.Sync(); err != nil {
			return 0, err
		}
		st, err := s.Stats(ctx)
		if err != nil || st.Delivered >= uint64(most) || idle && len(outs) == 0 {
			return int(st.Delivered), err
		}
		idle = len(outs) == 0
	}
}

// P9: when the disk is full accepting fails, and everything else goes on: deliveries,
// retries, dead letters, deletes, checkpoints, close and open, and a kill. When all is
// delivered there is room, and accepting goes on by itself. P5 holds at every step.
func TestStore_FullDisk(t *testing.T) {
	for name, c := range floods {
		for _, disk := range []string{"tmpfs", "ext4"} {
			t.Run(name+"/"+disk, func(t *testing.T) { testFullDisk(t, name, disk, c) })
		}
	}
}

func testFullDisk(t *testing.T, name, disk string, c flood) {
	size := int64(8 << 20)
	switch {
	case os.Getenv("GOUTBOX_TORTURE") != "":
		size = 22 << 20
	case disk == "ext4" && name == "log":
		t.Skip("long form only")
	}
	dir := filepath.Join(smallDisk(t, disk, size), "store")
	accepted := runChild(t, "fill", name, dir)
	t.Logf("%s, %d bytes: %d events of %d bytes", disk, size, accepted, c.payload)
	require.Greater(t, accepted*c.payload, int(size)/8)
	done := runChild(t, "drain", name, dir)

	s := open(t, dir, c.options...)
	st := stats(t, s)
	require.EqualValues(t, accepted, st.Accepted)
	require.EqualValues(t, done, st.Delivered)
	require.EqualValues(t, accepted, st.Pending+st.Dead+st.Delivered, "P1")
	dead := int(st.Dead)
	delivered, buried := publish(t, s, accepted/3)
	done, dead = done+delivered, dead+buried
	require.NoError(t, s.Close(), "what found no room in the database is in the log")
	whole(t, dir)

	s = open(t, dir, c.options...)
	delivered, buried = publish(t, s, accepted)
	done, dead = done+delivered, dead+buried
	st = stats(t, s)
	require.EqualValues(t, done, st.Delivered)
	require.EqualValues(t, dead, st.Dead)
	if c.delayed == 0 {
		require.Zero(t, st.Pending)
	}
	acceptAgain(t, s)
	publish(t, s, 8)

	var rest []outbox.ID
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		rest = append(rest, task.ID)
	}
	n, err := s.Delete(t.Context(), rest...)
	require.NoError(t, err)
	require.Len(t, rest, n)
	require.Zero(t, stats(t, s).Pending)
	require.NoError(t, s.Close())
	whole(t, dir)
}

// P9: room that others give back is found as well.
func TestStore_FullDiskGetsRoom(t *testing.T) {
	dir := smallDisk(t, "tmpfs", 12<<20)
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 6<<20), 0o600))
	c := floods["database"]
	s := open(t, filepath.Join(dir, "store"), c.options...)
	accepted, err := c.fill(s)
	require.NoError(t, err)
	require.ErrorIs(t, s.Create(t.Context(), tasks(0, 1)), outbox.ErrDiskFull)
	require.NoError(t, os.Remove(ballast))
	acceptAgain(t, s)
	require.EqualValues(t, accepted+1, stats(t, s).Pending)
}
