package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// The tests of this file are about where two mechanisms meet. A review found each of
// them broken.

// Recycling and sync levels: what ends a task behind the baseline, while that is being
// synced, is not synced itself. The task's record must not go on its account.
func TestMeet_LightenWhileAnEndIsUnsynced(t *testing.T) {
	disk := waltest.New()
	m := boot(t, disk, nil, bolt.WithSync(bolt.Interval(time.Hour)), bolt.WithAckSync(time.Hour),
		bolt.WithMaxTasks(1), bolt.WithOverflow(bolt.DropOldest))
	create(t, m.s, outbox.Task{Event: outbox.Event{Name: "old"}})
	for range 800 { // on to another segment: each baseline is a record
		require.NoError(t, m.s.Lighten())
	}
	met := false
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Sync && !met {
			met = true
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_ = m.s.Create(ctx, []outbox.Task{{Event: outbox.Event{Name: "new"}}}) // drops "old"
		}
		return nil
	})
	require.NoError(t, m.s.Lighten())
	disk.Inject(nil)
	require.True(t, met)
	again := boot(t, disk.Crash(disk.Ops(), 0), m.database(), bolt.WithSync(bolt.Never))
	require.NotEmpty(t, names(t, again.s), "it was synced long ago, and nothing on the disk has dropped it")
	stats(t, again.s)
	require.NoError(t, again.s.Close())
}

// Compaction and a folder that cannot be synced: a power cut may bring the old file
// back, so it must stay whole (R1, R36).
func TestMeet_CompactWhenTheFolderFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := bolt.Open(dir, quiet, bolt.WithCompaction(0, never, func(step string) {
		if step == "renamed" {
			require.NoError(t, os.Rename(dir, dir+".away"))
		}
	}))
	require.NoError(t, err)
	backlog(t, s, 20<<20)
	drainAll(t, s)
	require.NoError(t, s.Flush())
	old, err := os.Open(filepath.Join(dir, "outbox.db"))
	require.NoError(t, err)
	defer old.Close()
	before, err := old.Stat()
	require.NoError(t, err)
	require.ErrorIs(t, s.Compact(), outbox.ErrPoisoned)
	after, err := old.Stat()
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
	require.ErrorIs(t, s.Close(), outbox.ErrPoisoned)
}

// Compaction and a damaged page: bbolt shows fewer keys than there are, and minds not.
// The file that has the others must not be replaced (P11).
func TestMeet_CompactLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithCompaction(0, never, nil))
	backlog(t, s, 20<<20)
	drainAll(t, s)
	list := create(t, s, tasks(0, 5)...)
	require.NoError(t, s.Flush())
	take := func(put bool) {
		require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
			b, id := tx.Bucket([]byte("goutbox")).Bucket([]byte("tasks")), list[2].ID
			if put {
				return b.Put(id[:], list[2].Payload)
			}
			list[2].Payload = append([]byte(nil), b.Get(id[:])...)
			return b.Delete(id[:])
		}))
	}
	take(false) // as if a page had hidden it
	require.ErrorIs(t, s.Compact(), outbox.ErrCorrupt)
	require.Greater(t, stats(t, s).DatabaseBytes, uint64(10<<20))
	take(true)
	require.NoError(t, s.Compact())
	require.Less(t, stats(t, s).DatabaseBytes, uint64(10<<20))
	require.Len(t, names(t, s), 5)
}

// Quotas and a full disk: nobody is dropped for an event that is not accepted, however
// many would have to go for it.
func TestMeet_DropOldestOnAFullDisk(t *testing.T) {
	disk := waltest.New()
	m := boot(t, disk, nil, bolt.WithMaxBytes(1<<20), bolt.WithOverflow(bolt.DropOldest))
	for i := 0; i < 3000; i += 100 {
		create(t, m.s, tasks(i, 100)...)
	}
	require.NoError(t, m.s.Flush())
	before := stats(t, m.s).DroppedBy.Quota
	disk.SetFree(100 << 10)
	err := m.s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "large", Payload: make([]byte, 700<<10)}}})
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	require.NoError(t, m.s.Sync())
	require.Equal(t, before, stats(t, m.s).DroppedBy.Quota)
	require.NoError(t, m.s.Close())
}

// Order and a full disk: the outcome of a key's head does not fail along with an event
// for which there is no room, while the next of the key is on its way already (P4).
func TestMeet_OrderOnAFullDisk(t *testing.T) {
	disk := waltest.New()
	m := boot(t, disk, nil, bolt.WithAckSync(time.Hour))
	require.Eventually(t, func() bool { return m.s.Spares() > 0 }, 30*time.Second, time.Millisecond)
	create(t, m.s, keyed("a", "k"), keyed("b", "k"))
	first := claim(t, m.s, 1)
	disk.SetFree(0)
	done(t, m.s, first...) // queued
	second := claim(t, m.s, 1)
	require.Equal(t, "b", second[0].Name)
	err := m.s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "large", Payload: make([]byte, 100<<10)}}})
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	done(t, m.s, second...)
	require.NoError(t, m.s.Sync())
	require.Empty(t, names(t, m.s), "a, b, a")
	require.NoError(t, m.s.Close())
}

// The reserve and the application: it has made the file larger than the reserve knows,
// which must not pass for a full disk.
func TestMeet_ReserveBehindTheApplication(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithSegmentBytes(64<<10))
	create(t, s, tasks(0, 2000)...)
	require.NoError(t, s.Flush())
	done(t, s, claim(t, s, 300)...)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		return fillBucket(tx, 40, 200<<10)
	}))
	require.NoError(t, s.Flush())
}

// fillBucket makes a bucket of the application's own.
func fillBucket(tx *bbolt.Tx, n, size int) error {
	b, err := tx.CreateBucketIfNotExists([]byte("mine"))
	for i := 0; i < n && err == nil; i++ {
		err = b.Put([]byte{byte(i), byte(i >> 8)}, make([]byte, size))
	}
	return err
}

// The reserve and damaged indexes: to make them anew may take more than is ready.
func TestMeet_ReindexBeyondTheReserve(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithSegmentBytes(64<<10))
	for i := 0; i < 20000; i += 1000 {
		create(t, s, tasks(i, 1000)...)
	}
	require.NoError(t, s.Flush())
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		root := tx.Bucket([]byte("goutbox"))
		if err := root.DeleteBucket([]byte("due")); err != nil {
			return err
		}
		_, err := root.CreateBucket([]byte("due"))
		return err
	}))
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { // uses up the pages that were set free
		return fillBucket(tx, 1500, 3000)
	}))
	require.NoError(t, s.Reindex())
	require.Len(t, claim(t, s, 30000), 20000)
}
