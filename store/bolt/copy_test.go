package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

func init() {
	children["copy"] = func() error { return copyAndDie(os.Getenv("GOUTBOX_TEST_DIR")) }
}

// copyAndDie copies one store to another until it is killed, and says so when it begins.
func copyAndDie(dir string) error {
	from, err := bolt.Open(filepath.Join(dir, "from"), quiet, small)
	if err != nil {
		return err
	}
	to, err := bolt.Open(filepath.Join(dir, "to"), quiet, small)
	if err != nil {
		return err
	}
	fmt.Println("begun")
	if _, err := outbox.Copy(context.Background(), from, to); err != nil {
		return err
	}
	fmt.Println("done")
	select {} // until it is killed
}

var small = bolt.WithSegmentBytes(64 << 10)

// laden fills a store: n events, of which a third has one of three keys, and some are dead,
// delayed, or have been tried.
func laden(t *testing.T, s *bolt.Store, n int) (order []string) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		list := tasks(i, min(100, n-i))
		for j := range list {
			if list[j].MaxAttempts = 5; j%3 == 0 {
				list[j].Key = fmt.Sprint("k", j%9)
			}
			if j%10 == 9 {
				list[j].Delay = year
			}
		}
		create(t, s, list...)
		for j, task := range claim(t, s, 20) {
			switch {
			case task.Key != "" || j%3 == 0:
				settle(t, s, outbox.Release, 0, task)
			case j%3 == 1:
				settle(t, s, outbox.Bury, 0, task)
			default:
				settle(t, s, outbox.Retry, year, task)
			}
		}
	}
	return states(t, s)
}

// states lists a store: name, state, attempts and history of each task, in order.
func states(t *testing.T, s outbox.Store) (list []string) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		list = append(list, fmt.Sprint(task.ID, task.Name, task.Key, task.State, task.Attempts, len(task.Failures), task.Reason))
	}
	return list
}

// finish copies to the end, and checks that nothing was lost, doubled or changed.
func finish(t *testing.T, from, to *bolt.Store, want []string) {
	t.Helper()
	_, err := outbox.Copy(t.Context(), from, to)
	require.NoError(t, err)
	require.Equal(t, want, states(t, to))
	require.Empty(t, states(t, from))
	require.EqualValues(t, len(want), stats(t, to).Accepted)
	usageIsRight(t, from)
	usageIsRight(t, to)
}

// A process is killed while it copies, again and again: each event is there once in the
// end, as it was (P1, P4, P5).
func TestCopy_Kill(t *testing.T) {
	dir := t.TempDir()
	from, err := bolt.Open(filepath.Join(dir, "from"), quiet, small)
	require.NoError(t, err)
	want := laden(t, from, 6000)
	require.NoError(t, from.Close())
	lives := 0
	for ended := false; !ended && lives < 30; lives++ {
		child := childProcess(t, "copy", "GOUTBOX_TEST_DIR="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		r := bufio.NewReader(out)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "begun\n", line)
		kill := time.AfterFunc(time.Duration(5+rand.N(60))*time.Millisecond, func() { _ = child.Process.Kill() })
		for err == nil && !ended {
			line, err = r.ReadString('\n')
			ended = strings.HasPrefix(line, "done")
		}
		kill.Stop()
		_ = child.Process.Kill()
		require.Error(t, child.Wait())
	}
	t.Logf("%d lives", lives)
	finish(t, open(t, filepath.Join(dir, "from"), small), open(t, filepath.Join(dir, "to"), small), want)
}

// The power is cut at any moment of a copy, and takes from both logs what was not synced:
// nothing is lost and nothing there twice.
func TestCopy_PowerCut(t *testing.T) {
	cuts := 25
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		cuts = 500
	}
	midst := 0
	for i := range cuts {
		home := t.TempDir()
		disk := waltest.New()
		dirs := [2]string{filepath.Join(home, "from"), filepath.Join(home, "to")}
		mkdirAll(t, disk, home)
		for _, dir := range dirs {
			require.NoError(t, disk.Mkdir(dir))
			require.NoError(t, disk.SyncDir(home))
		}
		opts := []bolt.Option{small, bolt.WithLogFS(disk)}
		from, to := open(t, dirs[0], opts...), open(t, dirs[1], opts...)
		want := laden(t, from, 900)
		require.NoError(t, from.Sync())
		if i%2 == 0 {
			require.NoError(t, from.Flush())
		}
		var after atomic.Int64
		after.Store(int64(rand.N(60)))
		ctx, cancel := context.WithCancel(t.Context())
		var crashed *waltest.FS
		disk.Inject(func(waltest.Op) *waltest.Fault {
			if after.Add(-1) == 0 {
				cancel()
			}
			return nil
		})
		_, _ = outbox.Copy(ctx, from, to)
		cancel()
		disk.Inject(nil)
		var copies [2]string
		from.Freeze(func() {
			to.Freeze(func() {
				crashed = disk.Crash(disk.Ops(), uint64(i))
				for n, dir := range dirs {
					copies[n] = filepath.Join(t.TempDir(), filepath.Base(dir))
					copyDir(t, dir, copies[n])
				}
			})
		})
		require.NoError(t, from.Close())
		require.NoError(t, to.Close())
		again := func(n int) *bolt.Store { // where it was, for that is where its log is
			require.NoError(t, os.RemoveAll(dirs[n]))
			require.NoError(t, os.Rename(copies[n], dirs[n]))
			return open(t, dirs[n], small, bolt.WithLogFS(crashed))
		}
		from, to = again(0), again(1)
		if stats(t, from).Pending > 0 && stats(t, to).Pending > 0 {
			midst++
		}
		finish(t, from, to, want)
	}
	require.Greater(t, midst, cuts/8, "cut in the midst")
}

// To memory, and back to a disk, with events there already.
func TestCopy_ToMemAndBack(t *testing.T) {
	from, memory, to := open(t, t.TempDir()), mem.New(), open(t, t.TempDir(), bolt.WithOverlay(50, 1000))
	want := laden(t, from, 1500)
	got, err := outbox.Copy(t.Context(), from, memory)
	require.NoError(t, err)
	require.EqualValues(t, len(want), got.Events)
	require.Equal(t, want, states(t, memory))
	keyed := tasks(5000, 3)
	for i := range keyed {
		keyed[i].Key = fmt.Sprint("k", 3*i)
	}
	create(t, to, keyed...)
	require.NoError(t, to.Flush())
	_, err = outbox.Copy(t.Context(), memory, to)
	require.NoError(t, err)
	all := states(t, to)
	require.Equal(t, want, all[:len(want)])
	for _, task := range claim(t, to, 10_000) {
		require.NotContains(t, []string{"n005000", "n005001", "n005002"}, task.Name, "P4: older ones of its key came")
	}
}

// A target with a quota takes what fits; when that has gone out, the rest.
func TestCopy_FullTarget(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir(), bolt.WithMaxTasks(300), bolt.WithOverflow(bolt.DropOldest))
	create(t, from, tasks(0, 1000)...)
	for rounds := 0; ; rounds++ {
		_, err := outbox.Copy(t.Context(), from, to)
		if err == nil {
			require.Equal(t, 3, rounds)
			break
		}
		require.ErrorIs(t, err, outbox.ErrFull)
		require.EqualValues(t, 300, stats(t, to).Pending)
		done(t, to, claim(t, to, 1000)...)
	}
	require.Zero(t, stats(t, to).Dropped)
	require.EqualValues(t, 1000, stats(t, to).Accepted)
}

// What the target has as a damaged task only is copied: the intact event is not deleted from
// the source for a copy that nobody can deliver (P2, P5).
func TestCopy_IntoDamaged(t *testing.T) {
	for how, damage := range damages {
		for _, met := range []string{"not met", "just met", "a dead letter"} {
			for _, kind := range []string{"waiting", "dead"} {
				t.Run(how+", "+met+", "+kind, func(t *testing.T) {
					t.Parallel()
					from, dir := open(t, t.TempDir()), t.TempDir()
					list := []outbox.Task{keyed("first", "k"), keyed("second", "k"), keyed("other", "")}
					list[2].Unique, list[2].LatestOnly = "u", "l"
					create(t, from, list...)
					if kind == "dead" {
						bury(t, from, claim(t, from, 2)...)
					}
					to := open(t, dir, quiet)
					for task, err := range from.Export(t.Context(), outbox.Filter{}) {
						require.NoError(t, err)
						imports(t, to, 1, task)
					}
					require.NoError(t, to.Close())
					bucket := map[string]string{"waiting": "tasks", "dead": "dead"}[kind]
					spoil(t, dir, bucket, list[0].ID[:], damage)
					spoil(t, dir, bucket, list[2].ID[:], damage)
					to = open(t, dir)
					if met != "not met" {
						require.Len(t, names(t, to), 3)
					}
					if met == "a dead letter" {
						require.NoError(t, to.Flush())
					}
					copied, err := outbox.Copy(t.Context(), from, to)
					require.NoError(t, err)
					require.EqualValues(t, 3, copied.Events)
					require.Empty(t, names(t, from))
					st := stats(t, to)
					require.Zero(t, st.Damaged)
					require.EqualValues(t, 2, st.DroppedBy.Deleted)
					require.EqualValues(t, 5, st.Accepted)
					if kind == "dead" {
						require.EqualValues(t, 2, st.Dead)
					}
					audit(t, to)
					require.NoError(t, to.Close())
					to = open(t, dir)
					usageIsRight(t, to)
					for task, err := range to.Tasks(t.Context(), outbox.Filter{}) {
						require.NoError(t, err)
						require.Equal(t, strings.Repeat(task.Name, 10), string(task.Payload))
					}
				})
			}
		}
	}
}
