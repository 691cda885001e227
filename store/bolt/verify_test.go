package bolt_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// hashes is what all files of a folder hold.
func hashes(t testing.TB, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sums[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	}))
	return sums
}

// madePayload is what the task with this name must carry.
func madePayload(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	b := []byte{}
	for len(b) < 300 {
		b = append(b, sum[:]...)
	}
	return b
}

// mixed fills a store with something in every bucket: tasks of all kinds, tried ones
// and dead ones; a part of it in the log only.
func mixed(t testing.TB, s *bolt.Store) {
	t.Helper()
	ctx := t.Context()
	add := func(kind string, n int, set func(i int, task *outbox.Task)) {
		list := make([]outbox.Task, n)
		for i := range list {
			name := fmt.Sprintf("%s%04d", kind, i)
			list[i] = outbox.Task{Event: outbox.Event{Name: name, Payload: madePayload(name)}, MaxAttempts: 3}
			set(i, &list[i])
		}
		require.NoError(t, s.Create(ctx, list))
	}
	settle := func(most int, verdict outbox.Verdict) {
		c, err := s.Claim(ctx, outbox.ClaimRequest{Max: most, Lease: time.Hour})
		require.NoError(t, err)
		require.NotEmpty(t, c.Tasks)
		outcomes := []outbox.Outcome{}
		for _, one := range c.Tasks {
			outcomes = append(outcomes, outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: verdict, Failure: outbox.Failure{Error: "no", Attempt: one.Attempts + 1}, Reason: outbox.ReasonPermanent})
		}
		require.NoError(t, s.Settle(ctx, outcomes))
	}
	none := func(int, *outbox.Task) {}
	add("parks", 6, func(i int, task *outbox.Task) {
		task.Key, task.KeyPolicy = fmt.Sprintf("parked %d", i), outbox.ParkWholeKey
	})
	settle(6, outbox.Bury)
	add("parked", 6, func(i int, task *outbox.Task) { task.Key = fmt.Sprintf("parked %d", i) })
	add("spends", 40, func(i int, task *outbox.Task) { task.Unique, task.UniqueFor = fmt.Sprintf("spent %d", i), year })
	settle(40, outbox.Done)
	add("dead", 12, none)
	settle(12, outbox.Bury)
	add("tried", 40, none)
	settle(40, outbox.Retry)
	require.NoError(t, s.Flush())
	add("plain", 150, none)
	add("key", 60, func(i int, task *outbox.Task) { task.Key = fmt.Sprintf("key %d", i%17) })
	require.NoError(t, s.Flush())
	add("unique", 30, func(i int, task *outbox.Task) { task.Unique = fmt.Sprintf("u %d", i) })
	add("latest", 30, func(i int, task *outbox.Task) { task.LatestOnly = fmt.Sprintf("l %d", i) })
	add("late", 20, func(_ int, task *outbox.Task) { task.DueAt = time.Now().Add(time.Hour) })
	settle(50, outbox.Done)
	require.NoError(t, s.Flush())
	settle(10, outbox.Done)
	add("log", 5, none)
	require.NoError(t, s.Sync())
}

func verify(t testing.TB, dir string) bolt.Report {
	t.Helper()
	r, err := bolt.Verify(dir, quiet)
	require.NoError(t, err)
	return r
}

// The stores of all versions are healthy.
func TestVerify_Golden(t *testing.T) {
	for _, version := range []string{"testdata/v1", "testdata/v2", "testdata/v3", "testdata/v3-task3", golden} {
		dir := t.TempDir()
		copyDir(t, version, dir)
		r := verify(t, dir)
		require.True(t, r.OK(), r.String())
		require.NotZero(t, r.Waiting)
		require.NotZero(t, r.Records)
	}
}

// Verify finds nothing in a healthy store, open a moment ago or left by a crash, and
// changes no file.
func TestVerify_Healthy(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	s := open(t, dir, bolt.WithSegmentBytes(64<<10))
	mixed(t, s)
	st := stats(t, s)
	s.Freeze(func() { copyDir(t, dir, crashed) })
	_, err := bolt.Verify(dir, quiet)
	require.ErrorIs(t, err, outbox.ErrLocked)
	require.NoError(t, s.Close())

	for _, dir := range []string{dir, crashed} {
		before := hashes(t, dir)
		r := verify(t, dir)
		require.True(t, r.OK(), r.String())
		require.EqualValues(t, st.Pending+st.InFlight, r.Waiting)
		require.EqualValues(t, st.Dead, r.Dead)
		require.Equal(t, before, hashes(t, dir))
	}
	_, err = bolt.Verify(t.TempDir(), quiet)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, os.Remove(filepath.Join(crashed, "outbox.db")))
	r := verify(t, crashed)
	require.ErrorIs(t, r.Findings[0].Err, outbox.ErrMismatch)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
	r = verify(t, dir)
	require.ErrorIs(t, r.Findings[0].Err, outbox.ErrMismatch)
}
