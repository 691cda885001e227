package bolt_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// stuckWrites has the log's writes wait, until end says how they end.
type stuckWrites struct {
	reached chan struct{}
	ends    chan error
}

func stickWrites(disk *waltest.FS) *stuckWrites {
	w := &stuckWrites{reached: make(chan struct{}), ends: make(chan error, 10)}
	reached := sync.OnceFunc(func() { close(w.reached) })
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Write && strings.HasSuffix(op.Name, ".wal") {
			reached()
			if err := <-w.ends; err != nil {
				return &waltest.Fault{Err: err}
			}
		}
		return nil
	})
	return w
}

// end lets the writes end so, one after the other, and all behind them succeed.
func (w *stuckWrites) end(errs ...error) {
	for _, err := range errs {
		w.ends <- err
	}
	close(w.ends)
}

// latestOnADisk is a store of which nothing becomes durable by itself, on a disk that may fail.
func latestOnADisk(t *testing.T) (s *bolt.Store, disk *waltest.FS, reopen func() *bolt.Store) {
	t.Helper()
	dir := t.TempDir()
	disk = logDisk(t, dir)
	reopen = func() *bolt.Store {
		return open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10), bolt.WithAckSync(1000*time.Hour))
	}
	return reopen(), disk, reopen
}

// One that replaces another which has replaced one in flight, and each of them is written
// or not: the key is that of the last one written, and what it replaced is not delivered.
func TestLatest_FullDiskInAChain(t *testing.T) {
	for written := range 3 {
		t.Run(fmt.Sprint(written), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, disk, reopen := latestOnADisk(t)
				create(t, s, ready("first", ""))
				flying := claim(t, s, 1)
				require.NoError(t, s.Prepare())
				w := stickWrites(disk)
				results := make(chan error, 2)
				accept := func(name string) {
					before := s.InMemory()
					go func() { results <- s.Create(t.Context(), []outbox.Task{ready(name, "")}) }()
					for s.InMemory() == before {
						runtime.Gosched()
					}
				}
				accept("second")
				<-w.reached
				accept("third")
				w.end([][]error{{syscall.ENOSPC}, {nil, syscall.ENOSPC}, nil}[written]...)
				<-results
				<-results
				disk.Inject(nil)
				time.Sleep(2 * time.Second) // the background looks for room every second
				settle(t, s, outbox.Retry, 0, flying...)
				last := claim(t, s, 10)
				require.Len(t, last, 1)
				require.Equal(t, []string{"first", "second", "third"}[written], last[0].Name)
				done(t, s, last...)
				require.NoError(t, s.Close())
				s = reopen()
				require.Empty(t, claim(t, s, 10))
				require.EqualValues(t, written, stats(t, s).DroppedBy.Coalesced)
			})
		})
	}
}

// An event with a LatestOnly key that finds the disk full was never there, though the one
// of a transaction, committed while it was being written, had to do with it. That one
// is delivered (P2), and what it has replaced is not, neither after it nor after a restart.
func TestLatest_FullDiskBesideATransaction(t *testing.T) {
	for _, where := range []string{"log", "database"} {
		for _, old := range []string{"none", "waits", "in flight"} {
			for _, first := range []string{"transaction", "other"} { // whose ID is the lower one
				for _, meet := range []string{"before", "after"} { // a claim, and the full disk
					t.Run(fmt.Sprintf("%s, old %s, %s first, claimed %s", where, old, first, meet), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							latestBesideATransaction(t, where == "database", old, first == "transaction", meet == "before")
						})
					})
				}
			}
		}
	}
}

func latestBesideATransaction(t *testing.T, inDatabase bool, old string, txFirst, meet bool) {
	s, disk, reopen := latestOnADisk(t)
	if old != "none" {
		create(t, s, ready("old", ""))
	}
	if inDatabase {
		require.NoError(t, s.Flush())
	}
	var flying []outbox.Task
	if old == "in flight" {
		flying = claim(t, s, 1)
		require.Len(t, flying, 1)
	}
	require.NoError(t, s.Prepare())

	w := stickWrites(disk)
	failed := make(chan error, 1)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		ctx := bolt.WithTx(t.Context(), tx)
		if txFirst {
			require.NoError(t, s.Create(ctx, []outbox.Task{ready("new", "")}))
		}
		go func() { failed <- s.Create(t.Context(), []outbox.Task{ready("refused", "")}) }()
		<-w.reached
		if !txFirst {
			return s.Create(ctx, []outbox.Task{ready("new", "")})
		}
		return nil
	}))
	var got []outbox.Task
	if meet {
		got = claim(t, s, 10)
	}
	w.end(syscall.ENOSPC)
	require.ErrorIs(t, <-failed, outbox.ErrDiskFull)
	disk.Inject(nil)
	time.Sleep(2 * time.Second) // the background looks for room every second

	settle(t, s, outbox.Retry, time.Hour, flying...)
	got = append(got, claim(t, s, 10)...)
	require.Len(t, got, 1)
	require.Equal(t, "new", got[0].Name)
	done(t, s, got...)
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	s = reopen()
	time.Sleep(2 * time.Hour)
	require.Empty(t, claim(t, s, 10))
	st := stats(t, s)
	require.EqualValues(t, 1, st.Delivered)
	require.Zero(t, st.Pending)
	require.Equal(t, old != "none", st.DroppedBy.Coalesced == 1)
}
