package bolt_test

import (
	"runtime"
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
	for _, key := range []string{"Unique", "LatestOnly"} {
		t.Run(key, func(t *testing.T) {
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
					require.NoError(s, s.Sync())
					return s.Create(bolt.WithTx(s.Context(), tx), []outbox.Task{holding(key, "new")})
				}))
				require.NoError(s, <-flushed)
				require.NoError(s, s.Flush())
				s.then(way)
				err := s.Create(s.Context(), []outbox.Task{holding(key, "newest")})
				if key == "Unique" {
					require.ErrorIs(s, err, outbox.ErrDuplicate)
					s.claims("new")
					return
				}
				require.NoError(s, err)
				require.Equal(s, []string{"newest"}, names(s.T, s.Store))
				s.coalesced(1)
			})
		})
	}
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
				err := s.Create(s.Context(), []outbox.Task{holding(key, "newest")})
				if key == "Unique" {
					require.ErrorIs(s, err, outbox.ErrDuplicate)
					s.claims("new")
					return
				}
				require.NoError(s, err)
				s.claims("newest")
				s.coalesced(1)
			})
		})
	}
}
