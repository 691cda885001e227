package bolt_test

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// While the destination takes events as fast as they come, the database is not
// touched: the log is recycled behind them.
func TestStore_DatabaseUntouched(t *testing.T) {
	const events, producers = 100_000, 64
	dir := t.TempDir()
	s := open(t, dir)
	ob := outbox.New(s)
	before := commits(t, s)

	var mu sync.Mutex
	seen := make(map[outbox.ID]int, events)
	var delivered atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- ob.Start(ctx, func(_ context.Context, e outbox.Event) error {
			mu.Lock()
			defer mu.Unlock()
			seen[e.ID]++
			if delivered.Add(1) == events {
				stop()
			}
			return nil
		})
	}()
	payload := make([]byte, 256)
	var all sync.WaitGroup
	var window = make(chan struct{}, 4096) // how far the producers may be ahead
	for range producers {
		all.Go(func() {
			for range events / producers {
				window <- struct{}{}
				_, err := ob.Enqueue(context.Background(), "event", payload)
				<-window
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range events % producers {
		_, err := ob.Enqueue(context.Background(), "event", payload)
		require.NoError(t, err)
	}
	all.Wait()
	require.NoError(t, <-ended)

	require.Len(t, seen, events)
	for id, n := range seen {
		require.Equal(t, 1, n, "%s was delivered %d times", id, n)
	}
	st := stats(t, s)
	require.EqualValues(t, events, st.Delivered)
	require.Zero(t, st.Checkpoints)
	require.Equal(t, before, commits(t, s), "commits to the database")
	t.Logf("%d events, %d syncs, %d bytes written", events, st.Syncs, st.BytesWritten)

	require.NoError(t, s.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(segments), 4, "the log is recycled")
	require.Zero(t, stats(t, open(t, dir)).Pending)
}

// commits returns the number of the database's last transaction.
func commits(t *testing.T, s *bolt.Store) (id int) {
	t.Helper()
	require.ErrorIs(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { id = tx.ID(); return errNo }), errNo)
	return id
}

// A backlog larger than memory's bound goes to the database and comes back, each
// event once and in order.
func TestStore_Backlog(t *testing.T) {
	const events = 20_000
	dir := t.TempDir()
	s := open(t, dir, bolt.WithOverlay(1000, 2000))
	for i := 0; i < events; i += 500 {
		create(t, s, tasks(i, 500)...)
	}
	require.LessOrEqual(t, s.InMemory(), 2500)
	require.NoError(t, s.Close())

	s = open(t, dir, bolt.WithOverlay(1000, 2000))
	require.Zero(t, s.InMemory(), "opening does not read what waits")
	var last outbox.ID
	n := 0
	for got := claim(t, s, 700); len(got) > 0; got = claim(t, s, 700) {
		for _, task := range got {
			require.Positive(t, task.ID.Compare(last), "oldest first")
			last = task.ID
		}
		n += len(got)
		done(t, s, got...)
		require.LessOrEqual(t, s.InMemory(), 5000)
	}
	require.Equal(t, events, n)
	require.Zero(t, stats(t, s).Pending)
	require.NoError(t, s.Close())
	require.Empty(t, names(t, open(t, dir)))
}

// One key with a long backlog is delivered one by one in order, while others pass.
func TestStore_BacklogOfOneKey(t *testing.T) {
	const events = 3_000
	s := open(t, t.TempDir(), bolt.WithOverlay(200, 400))
	for i := 0; i < events; i += 100 {
		list := tasks(i, 100)
		for j := range list {
			list[j].Key = "k"
		}
		create(t, s, list...)
	}
	require.NoError(t, s.Flush())
	create(t, s, tasks(events, 1)...)
	for i := range events {
		got := claim(t, s, 10)
		if i == 0 {
			require.Len(t, got, 2, "the head and the one without a key")
			done(t, s, got[1])
		} else {
			require.Len(t, got, 1)
		}
		require.Equal(t, tasks(i, 1)[0].Name, got[0].Name)
		done(t, s, got[0])
	}
	require.Empty(t, names(t, s))
}
