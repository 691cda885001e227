package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// Several processes and one folder (R7).

func init() {
	children["race"] = func() error { return enterAndLeave(os.Getenv("GOUTBOX_TEST_DIR"), os.Getenv("GOUTBOX_TEST_LIFE")) }
}

// While one process has the store, another is refused at once and does no harm; when
// the first is killed, the second gets in and finds everything.
func TestProcesses_OneAtATime(t *testing.T) {
	dir := t.TempDir()
	child := childProcess(t, "kill", "GOUTBOX_TEST_DIR="+dir, "GOUTBOX_TEST_LIFE=0")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	r := bufio.NewReader(out)
	accepted, heard := map[string]bool{}, 0
	next := func() bool {
		line, err := r.ReadString('\n')
		heard += len(line)
		if err == nil && strings.HasPrefix(line, "a ") {
			accepted[strings.TrimSpace(line[2:])] = true
		}
		return err == nil
	}
	require.True(t, next())

	for range 2 {
		before := time.Now()
		_, err = bolt.Open(dir, quiet)
		require.ErrorIs(t, err, outbox.ErrLocked)
		require.ErrorContains(t, err, fmt.Sprintf("process %d", child.Process.Pid))
		require.Less(t, time.Since(before), 30*time.Second)
	}
	for begin := heard; heard < begin+100_000; { // more than a pipe holds: it has gone on working since
		require.True(t, next(), "the first process has stopped")
	}
	require.NoError(t, child.Process.Kill())
	for next() {
	}
	require.Error(t, child.Wait())

	s := open(t, dir) // waits for nobody
	st := stats(t, s)
	require.GreaterOrEqual(t, st.Accepted, uint64(len(accepted)))
}

// turns is how often each of the processes goes in.
const turns = 5

// enterAndLeave opens the store some times, as soon as it can, and accepts one event
// each time. It leaves once without closing, by the end of the process.
func enterAndLeave(dir, name string) error {
	deadline := time.Now().Add(time.Minute)
	for turn := range turns {
		s, err := bolt.Open(dir, quiet, bolt.WithSegmentBytes(64<<10))
		for errors.Is(err, outbox.ErrLocked) && time.Now().Before(deadline) {
			s, err = bolt.Open(dir, quiet, bolt.WithSegmentBytes(64<<10))
		}
		if err != nil {
			return err
		}
		inside := filepath.Join(dir, "inside")
		if err := os.Mkdir(inside, 0o700); err != nil {
			return fmt.Errorf("somebody else is in: %w", err)
		}
		task := []outbox.Task{{Event: outbox.Event{Name: fmt.Sprintf("%s-%d", name, turn)}, MaxAttempts: 1}}
		if err := s.Create(context.Background(), task); err != nil {
			return err
		}
		if err := os.Remove(inside); err != nil {
			return err
		}
		if turn == turns-1 {
			return nil
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Processes that race for a folder that is not there yet make one store, and are in
// it one at a time.
func TestProcesses_RaceForAFreshFolder(t *testing.T) {
	rounds := 2
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		rounds = 50
	}
	for range rounds {
		dir := filepath.Join(t.TempDir(), "data", "store")
		var all []*exec.Cmd
		for i := range 4 {
			child := childProcess(t, "race", "GOUTBOX_TEST_DIR="+dir, fmt.Sprintf("GOUTBOX_TEST_LIFE=%d", i))
			require.NoError(t, child.Start())
			t.Cleanup(func() { _ = child.Process.Kill() })
			all = append(all, child)
		}
		for _, child := range all {
			require.NoError(t, child.Wait())
		}
		s := open(t, dir)
		there := map[string]bool{}
		for _, name := range names(t, s) {
			there[name] = true
		}
		require.Len(t, there, len(all)*turns)
		require.EqualValues(t, len(all)*turns, stats(t, s).Accepted)
	}
}
