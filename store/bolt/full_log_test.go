package bolt_test

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// Records that found no room in the log are taken back, and so is what they would
// have done to the ledger (P5, P9): what was settled while the log was looking for
// room has not happened.
func TestStore_Ledger_LogFull(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	opts := []bolt.Option{bolt.WithLogFS(disk), bolt.WithSegmentBytes(64 << 10)}
	s := open(t, dir, opts...)
	create(t, s, append(tasks(0, 3), latestOf("old", "l"))...)
	require.NoError(t, s.Flush())
	create(t, s, tasks(3, 3)...)
	got := claim(t, s, 10)
	require.Len(t, got, 6)
	before := stats(t, s)

	looking, full := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(looking) })
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Create {
			return nil
		}
		once()
		<-full
		return &waltest.Fault{Err: syscall.ENOSPC}
	})
	large := append(tasks(10, 20), latestOf("new", "l"))
	for i := range large {
		large[i].Payload = make([]byte, 30_000) // more than all the segments that are ready
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Create(t.Context(), large) }()
	<-looking // be it the background; then the records are queued, and wait for it
	require.Eventually(t, func() bool { return s.InMemory() > len(large) }, 30*time.Second, time.Millisecond)
	settle(t, s, outbox.Done, 0, got[0])
	settle(t, s, outbox.Retry, year, got[1])
	settle(t, s, outbox.Bury, 0, got[3])
	audit := func() { t.Helper(); audit(t, s) }
	require.EqualValues(t, before.Delivered+1, stats(t, s).Delivered, "settled, though not durable")
	close(full)
	require.ErrorIs(t, <-failed, outbox.ErrDiskFull)
	audit()
	st := stats(t, s)
	require.Equal(t, before.Delivered, st.Delivered)
	require.Equal(t, before.Accepted, st.Accepted)
	require.Zero(t, st.Dead)
	require.Zero(t, st.Dropped)
	require.Equal(t, before.Pending+3, st.Pending, "they wait again")

	disk.Inject(nil)
	require.NoError(t, s.Lighten())
	settle(t, s, outbox.Done, 0, claim(t, s, 10)...)
	require.Eventually(t, func() bool { // the background looks for room every second
		return s.Create(t.Context(), []outbox.Task{large[20]}) == nil
	}, 30*time.Second, 10*time.Millisecond)
	audit()
	want := stats(t, s)
	require.NoError(t, s.Close())
	s = open(t, dir, opts...)
	have := stats(t, s)
	require.Equal(t, want.Delivered, have.Delivered)
	require.Equal(t, want.Dropped, have.Dropped)
	require.Equal(t, want.Pending+want.InFlight, have.Pending)
}

// Stats says why nothing is accepted, and that it is again (P9).
func TestStats_NoRoom(t *testing.T) {
	t.Parallel()
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))
	require.NoError(t, stats(t, s).NoRoom)
	require.Zero(t, stats(t, s).LastCheckpoint)
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Create {
			return nil
		}
		return &waltest.Fault{Err: syscall.ENOSPC}
	})
	require.Eventually(t, func() bool {
		err := s.Create(t.Context(), tasks(0, 50))
		return err != nil && stats(t, s).NoRoom != nil
	}, patience, time.Millisecond)
	require.ErrorIs(t, stats(t, s).NoRoom, outbox.ErrDiskFull)
	disk.Inject(nil)
	acceptAgain(t, s)
	require.Eventually(t, func() bool { return stats(t, s).NoRoom == nil }, patience, time.Millisecond)
}

// A store that could not even make sure of the end of its log, and gave up giving back
// space for as long as nothing changes, goes on when a single segment has come free (P9).
func TestStore_FullDiskOneSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		dir := t.TempDir()
		mkdirAll(t, disk, dir)
		opts := []bolt.Option{bolt.WithSegmentBytes(64 << 10)}
		s := open(t, dir, append(opts, bolt.WithLogFS(disk))...)
		path := filepath.Join(dir, "outbox.db")
		database, err := os.ReadFile(path)
		require.NoError(t, err)
		s.Freeze(func() {
			for i := range 12 {
				large := tasks(i, 1)
				large[0].Payload = make([]byte, 10_000)
				create(t, s, large...)
			}
			disk = disk.Crash(disk.Ops(), 0)
		})
		require.NoError(t, s.Close())
		require.NoError(t, os.WriteFile(path, database, 0o600))

		var spares atomic.Int64 // so many may be made; with less than none nothing is written either
		spares.Store(-1)
		disk.Inject(func(op waltest.Op) *waltest.Fault {
			switch {
			case op.Kind == waltest.Create && spares.Load() > 0:
				spares.Add(-1)
			case op.Kind == waltest.Create, op.Kind == waltest.Write && spares.Load() < 0:
				return &waltest.Fault{Err: syscall.ENOSPC}
			}
			return nil
		})
		for _, name := range disk.Names(filepath.Join(dir, "wal")) {
			if filepath.Ext(name) == ".spare" {
				require.NoError(t, disk.Remove(filepath.Join(dir, "wal", name)))
			}
		}
		s = open(t, dir, append(opts, bolt.WithLogFS(disk))...)
		time.Sleep(3 * time.Second) // it has tried to give back space, and has nothing to try again
		synctest.Wait()
		require.ErrorIs(t, stats(t, s).NoRoom, outbox.ErrDiskFull)
		require.Zero(t, s.Spares())
		spares.Store(1)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NoError(t, stats(t, s).NoRoom, s.Room())
		require.EqualValues(t, 12, stats(t, s).Pending)
		disk.Inject(nil)
	})
}
