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

// What was delivered while a checkpoint waited for a transaction to end is written as
// waiting, but takes no key back from what the transaction has accepted meanwhile: with the
// key the next checkpoint would take it from that one too.
func TestCheckpoint_KeysOfWhatEndedMeanwhile(t *testing.T) {
	for _, key := range []string{"Unique", "LatestOnly"} {
		with := func(name string) outbox.Task {
			task := named(name)
			if task.Unique = "u"; key == "LatestOnly" {
				task.Unique, task.LatestOnly = "", "l"
			}
			return task
		}
		t.Run(key, func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				create(s.T, s.Store, with("old"))
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
					return s.Create(bolt.WithTx(s.Context(), tx), []outbox.Task{with("new")})
				}))
				require.NoError(s, <-flushed)
				require.NoError(s, s.Flush())
				s.then(way)
				err := s.Create(s.Context(), []outbox.Task{with("newest")})
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
