package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// open opens a store. At the end of the test it audits it and closes it, unless the
// test has.
func open(t *testing.T, dir string, opts ...bolt.Option) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(dir, append(opts, quiet)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if !s.Closed() {
			audit(t, s)
		}
		require.NoError(t, s.Close())
	})
	return s
}

// audit has the store recount itself (P5).
func audit(t testing.TB, s outbox.Store) {
	t.Helper()
	_, err := s.(interface {
		Audit(ctx context.Context) (bolt.Audit, error)
	}).Audit(context.Background())
	require.NoError(t, err)
}

// openDB opens a database as an application would.
func openDB(t *testing.T, path string, opts *bbolt.Options) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// tasks makes n tasks named after their number.
func tasks(from, n int) []outbox.Task {
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = outbox.Task{Event: outbox.Event{Name: fmt.Sprintf("n%06d", from+i), Payload: make([]byte, 256)}, MaxAttempts: 3}
	}
	return list
}

func create(t *testing.T, s outbox.Store, list ...outbox.Task) []outbox.Task {
	t.Helper()
	require.NoError(t, s.Create(t.Context(), list))
	return list
}

func claim(t *testing.T, s outbox.Store, most int) []outbox.Task {
	t.Helper()
	c, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: most, Lease: time.Hour})
	require.NoError(t, err)
	return c.Tasks
}

func done(t *testing.T, s outbox.Store, list ...outbox.Task) {
	t.Helper()
	outcomes := make([]outbox.Outcome, len(list))
	for i, one := range list {
		outcomes[i] = outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: outbox.Done}
	}
	require.NoError(t, s.Settle(t.Context(), outcomes))
}

func stats(t *testing.T, s outbox.Store) outbox.Stats {
	t.Helper()
	st, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, st.Accepted, st.Delivered+st.Pending+st.InFlight+st.Dead+st.Dropped, "P5")
	return st
}

// names lists the waiting tasks.
func names(t *testing.T, s outbox.Store) []string {
	t.Helper()
	list := []string{}
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		list = append(list, task.Name)
	}
	return list
}

// usageIsRight checks that the usage record in the database equals a recount of it,
// and what the quotas go by equals that and what memory knows beyond.
func usageIsRight(t *testing.T, s *bolt.Store) {
	t.Helper()
	st, err := s.Stock()
	require.NoError(t, err)
	require.Equal(t, st.Recounted, st.Recorded, "usage record, against a recount")
	require.Equal(t, st.Expected, st.Memory, "usage in memory")
	now := stats(t, s)
	require.EqualValues(t, [4]int64{int64(now.Pending + now.InFlight), int64(now.PendingBytes), int64(now.Dead), int64(now.DeadBytes)},
		st.Memory, "usage in Stats")
}

// logDisk returns a file system in memory that has the folder dir, for the log of a
// store whose database is in the real one.
func logDisk(t *testing.T, dir string) *waltest.FS {
	t.Helper()
	disk := waltest.New()
	var folders []string
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		folders = append(folders, dir)
	}
	for _, folder := range slices.Backward(folders) {
		require.NoError(t, disk.Mkdir(folder))
		require.NoError(t, disk.SyncDir(filepath.Dir(folder)))
	}
	return disk
}
