package bolt_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// onDisk sums the sizes of all files of a store, and the blocks that they take.
func onDisk(t *testing.T, dir string) (size, blocks int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size, blocks = size+info.Size(), blocks+blocksOf(info)
		}
		return err
	}))
	return size, blocks
}

// R37: what a fresh store takes is known, and can be made small.
func TestStore_Footprint(t *testing.T) {
	for _, one := range []struct {
		name string
		opts []bolt.Option
		most int64
	}{
		{"default", nil, 16 << 20},
		{"small segments", []bolt.Option{bolt.WithSegmentBytes(64 << 10)}, 1 << 20},
	} {
		t.Run(one.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, one.opts...)
			require.NoError(t, s.Prepare())
			create(t, s, tasks(0, 1)...)
			require.Eventually(t, func() bool { return s.Spares() > 0 }, 30*time.Second, time.Millisecond, "the log has all its files")
			size, blocks := onDisk(t, dir)
			t.Logf("%d bytes, %d in blocks", size, blocks)
			require.Less(t, max(size, blocks), one.most)
			require.NoError(t, s.Close())
			size, blocks = onDisk(t, dir)
			require.Less(t, max(size, blocks), one.most)
			st := stats(t, open(t, dir, one.opts...))
			require.NotZero(t, st.DatabaseBytes)
			require.NotZero(t, st.LogBytes)
		})
	}
}

// P8: a transaction of the application holds up checkpoints, and the log grows. When it
// has ended the log shrinks again.
func TestStore_LogShrinksAfterLongTransaction(t *testing.T) {
	const segment = 64 << 10
	s := open(t, t.TempDir(), bolt.WithSegmentBytes(segment))
	require.NoError(t, s.Update(t.Context(), func(*bbolt.Tx) error {
		for n := 0; n < 2000; n += 100 {
			create(t, s, tasks(n, 100)...)
		}
		require.Greater(t, stats(t, s).LogBytes, uint64(8*segment))
		return nil
	}))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.LessOrEqual(c, stats(t, s).LogBytes, uint64((3+2)*segment))
	}, 30*time.Second, 5*time.Millisecond)
	require.Len(t, names(t, s), 2000)
}

// R37: a bound of the database's file makes the store full, not broken.
func TestStore_MaxDatabaseBytes(t *testing.T) {
	const most = 4 << 20
	dir := t.TempDir()
	opts := []bolt.Option{
		bolt.WithMaxDatabaseBytes(most), bolt.WithSegmentBytes(256 << 10), bolt.WithOverlay(256, 1024),
		bolt.WithCompaction(1<<40, never, nil),
	}
	s := open(t, dir, opts...)
	tooMuch := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("mine"))
		return errors.Join(err, b.Put([]byte("k"), make([]byte, most)))
	}
	require.ErrorIs(t, s.Update(t.Context(), tooMuch), outbox.ErrFull)
	accepted := 0
	var err error
	for err == nil {
		list := tasks(accepted, 50)
		for i := range list {
			list[i].Payload = make([]byte, 1000)
		}
		if err = s.Create(t.Context(), list); err == nil {
			accepted += len(list)
		}
		require.Less(t, accepted, 20_000)
	}
	require.ErrorIs(t, err, outbox.ErrFull)
	require.ErrorContains(t, err, "WithMaxDatabaseBytes")
	require.Greater(t, accepted, 2000)
	require.ErrorIs(t, s.Update(t.Context(), tooMuch), outbox.ErrFull)
	for range 3 {
		_ = s.Flush() // moves what it can
	}
	room, reserve := s.Reserve()
	require.GreaterOrEqual(t, room, reserve/2, "what waits may not take what removals need")
	require.NoError(t, s.Close())
	size, _ := onDisk(t, filepath.Join(dir, "outbox.db"))
	require.LessOrEqual(t, size, int64(most+1<<20))

	s = open(t, dir, opts...)
	require.EqualValues(t, accepted, stats(t, s).Pending)
	delivered, dead := publish(t, s, 2*accepted)
	require.Equal(t, accepted, delivered+dead)
	require.EqualValues(t, delivered, stats(t, s).Delivered)
	acceptAgain(t, s)
	require.Len(t, names(t, s), 1+dead)
}

func TestStore_MaxDatabaseBytesRefused(t *testing.T) {
	_, err := bolt.Open(t.TempDir(), quiet, bolt.WithMaxDatabaseBytes(1<<20))
	require.ErrorIs(t, err, outbox.ErrInvalid)
	s, err := bolt.Open(t.TempDir(), quiet, bolt.WithMaxDatabaseBytes(3<<30))
	if ^uint(0)>>32 == 0 {
		require.ErrorIs(t, err, outbox.ErrInvalid)
		return
	}
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// P9: where there is no room for a whole checkpoint, what was moved is not needed in the
// log any more, though nothing can be written to the log. Recovery is such a place.
func TestStore_PartialCheckpoint(t *testing.T) {
	const events = 2500
	dir, crashed := t.TempDir(), t.TempDir()
	small := bolt.WithSegmentBytes(64 << 10)
	s := open(t, dir, small)
	require.NoError(t, s.Update(t.Context(), func(*bbolt.Tx) error {
		for n := 0; n < events; n += 50 {
			list := tasks(n, 50)
			for i := range list {
				list[i].Payload = make([]byte, 1000)
			}
			create(t, s, list...)
		}
		done(t, s, claim(t, s, 100)...)
		require.NoError(t, s.Sync())
		require.NoError(t, os.CopyFS(crashed, os.DirFS(dir)))
		return nil
	}), "a long transaction keeps all in the log")

	bounded := []bolt.Option{small, bolt.WithMaxDatabaseBytes(1 << 20)}
	for range 3 {
		s = open(t, crashed, bounded...)
		require.Greater(t, s.LogFirst(), uint64(300), "moved from the log to the database")
		st := stats(t, s)
		require.EqualValues(t, events, st.Accepted)
		require.EqualValues(t, events-100, st.Pending)
		require.EqualValues(t, 100, st.Delivered)
		require.Len(t, names(t, s), events-100)
		require.NoError(t, s.Close())
	}
	s = open(t, crashed, bounded...)
	require.Equal(t, events-100, drainAll(t, s))
	require.EqualValues(t, events, stats(t, s).Delivered)
}

// P9: the last of a full log is for what brings room: a retry is refused, a delivery in
// the same call is recorded.
func TestStore_FullLogPrefersDeliveries(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	var parents []string
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		parents = append(parents, d)
	}
	for _, d := range slices.Backward(parents) {
		require.NoError(t, disk.Mkdir(d))
	}
	s := open(t, dir, bolt.WithSegmentBytes(64<<10), bolt.WithLogFS(disk))
	created := create(t, s, tasks(0, 200)...)
	got := claim(t, s, 200)
	require.NoError(t, s.Prepare())
	disk.SetFree(0)
	for n := 0; ; n++ { // until the device is found to be full
		if err := s.Create(t.Context(), tasks(n, 10)); err != nil {
			require.ErrorIs(t, err, outbox.ErrDiskFull)
			break
		}
	}
	outcome := func(v outbox.Verdict) outbox.Outcome {
		task := got[0]
		got = got[1:]
		return outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: v, Delay: time.Hour, Failure: outbox.Failure{Error: strings.Repeat("x", 1000)}}
	}
	var err error
	for err == nil {
		err = s.Settle(t.Context(), []outbox.Outcome{outcome(outbox.Retry)})
	}
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	before := stats(t, s)
	require.ErrorIs(t, s.Settle(t.Context(), []outbox.Outcome{outcome(outbox.Retry), outcome(outbox.Done)}), outbox.ErrDiskFull)
	require.EqualValues(t, before.Delivered+1, stats(t, s).Delivered)
	require.NotEmpty(t, created)
}
