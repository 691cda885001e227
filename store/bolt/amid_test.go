package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// holding is a task with one kind of key.
func holding(kind, name string) outbox.Task {
	task := named(name)
	if task.Unique = "u"; kind == "LatestOnly" {
		task.Unique, task.LatestOnly = "", "l"
	}
	return task
}

// What was delivered while a checkpoint waited for a transaction to end is written as
// waiting, but takes no key back from what the transaction has accepted meanwhile: with the
// key the next checkpoint would take it from that one too.
func TestCheckpoint_KeysOfWhatEndedMeanwhile(t *testing.T) {
	for _, end := range []string{"Unique", "LatestOnly", "Unique, not durable", "LatestOnly, not durable"} {
		key, later, _ := strings.Cut(end, ", ")
		t.Run(end, func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				create(s.T, s.Store, holding(key, "old"))
				old := s.claims("old")[0]
				synctest.Wait() // see TestLatest_TransactionAmidACheckpoint
				flushed := make(chan error, 1)
				require.NoError(s, s.Update(s.Context(), func(tx *bbolt.Tx) error {
					go func() { flushed <- s.Flush() }()
					for !s.MidFlush(old.ID) {
						runtime.Gosched()
					}
					done(s.T, s.Store, old)
					if later == "" {
						require.NoError(s, s.Sync())
					}
					return s.Create(bolt.WithTx(s.Context(), tx), []outbox.Task{holding(key, "new")})
				}))
				require.NoError(s, <-flushed)
				require.NoError(s, s.Flush())
				s.then(way)
				if !s.takesNewest(key) {
					return
				}
				require.Equal(s, []string{"newest"}, names(s.T, s.Store))
				s.coalesced(1)
			})
		})
	}
}

// takesNewest accepts "newest", which is to replace "new", and reports that; with a Unique
// key, which "new" is to hold, it is refused.
func (s *latestStore) takesNewest(key string) bool {
	err := s.Create(s.Context(), []outbox.Task{holding(key, "newest")})
	if key == "Unique" {
		require.ErrorIs(s, err, outbox.ErrDuplicate)
		s.claims("new")
		return false
	}
	require.NoError(s, err)
	return true
}

// A task with a lower ID than the one that had its keys, and has ended, holds them all the
// same, though the database knows of that only with the next checkpoint.
func TestCheckpoint_KeysOfALowerIDInATransaction(t *testing.T) {
	for _, key := range []string{"Unique", "LatestOnly"} {
		t.Run(key, func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				old := create(s.T, s.Store, holding(key, "old"))[0]
				require.NoError(s, s.Flush())
				done(s.T, s.Store, s.claims("old")...)
				require.NoError(s, s.Sync())
				lower := holding(key, "new")
				lower.ID = old.ID
				lower.ID[3]--
				s.inTx(lower)
				s.then(way)
				require.Equal(s, []string{"new"}, names(s.T, s.Store))
				if !s.takesNewest(key) {
					return
				}
				s.claims("newest")
				s.coalesced(1)
			})
		})
	}
}

// A crash between two transactions of a checkpoint does not bring back a task that was
// replaced while it was in flight, when the one that replaced it is delivered and gone: that
// it is stale is written first.
func TestLatest_CrashAmidACheckpoint(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "app.db"), 0o600, nil)
	require.NoError(t, err)
	s, err := bolt.Attach(db, filepath.Join(dir, "outbox"), quiet, bolt.WithSegmentBytes(12<<20))
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(s.Close(), db.Close())) }()
	const letters = 9 // of a MiB: three transactions
	var large []outbox.Task
	create(t, s, ready("old", ""))
	old := claim(t, s, 1)
	require.Len(t, old, 1)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{ready("new", "")})
	}))
	got := claim(t, s, 1)
	require.Equal(t, "new", got[0].Name)
	done(t, s, got...)
	for i := range letters {
		task := named(fmt.Sprint("large ", i))
		task.Payload = make([]byte, 1<<20)
		large = append(large, task)
	}
	for i := range large {
		create(t, s, large[i])
		large[i] = claim(t, s, 1)[0]
	}
	tx, err := db.Begin(true)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	bury(t, s, large...)
	require.NoError(t, s.Sync())
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush() }()
	for !s.MidFlush(old[0].ID) {
		runtime.Gosched()
	}
	n := 0
	for n == 0 {
		require.NoError(t, tx.Rollback())
		tx, err = db.Begin(true)
		require.NoError(t, err)
		n = tx.Bucket([]byte("goutbox")).Bucket([]byte("dead")).Stats().KeyN
	}
	require.Less(t, n, letters, "in the midst of the checkpoint")
	require.NoError(t, os.CopyFS(crashed, os.DirFS(dir)))
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-flushed)

	again, err := bbolt.Open(filepath.Join(crashed, "app.db"), 0o600, nil)
	require.NoError(t, err)
	s2, err := bolt.Attach(again, filepath.Join(crashed, "outbox"), quiet, bolt.WithSegmentBytes(12<<20))
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(s2.Close(), again.Close())) }()
	require.Empty(t, claim(t, s2, 10))
	audit(t, s2)
}
