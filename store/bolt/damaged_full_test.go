package bolt_test

import (
	"strings"
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

// A damaged task that is met when the log has no room for the record that sets it apart is
// met again when there is room: it need not be listed, nor the store opened anew, for it to
// be a dead letter (I3, P9). What is behind it in its key does not wait for that.
func TestDamaged_MetOnAFullDisk(t *testing.T) {
	for how, damage := range map[string]func([]byte) []byte{"known place": flipLast, "unknown place": noise} {
		for _, key := range []string{"", "k"} {
			for _, full := range []string{"when it is met", "a moment later"} {
				t.Run(how+", key "+key+", full "+full, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						damagedOnAFullDisk(t, damage, key, full == "when it is met")
					})
				})
			}
		}
	}
}

func damagedOnAFullDisk(t *testing.T, damage func([]byte) []byte, key string, fullBefore bool) {
	dir := t.TempDir()
	disk := logDisk(t, dir)
	opts := []bolt.Option{bolt.WithLogFS(disk), bolt.WithSegmentBytes(64 << 10), bolt.WithAckSync(1000 * time.Hour)}
	s := open(t, dir, opts...)
	const victims = 10
	list := make([]outbox.Task, victims)
	for i := range list {
		list[i] = keyed("victim", key)
	}
	create(t, s, list...)
	create(t, s, keyed("behind", key), keyed("busy", ""))
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { // no start looks through the indexes of a large one
		b, err := tx.CreateBucket([]byte("mine"))
		require.NoError(t, err)
		return b.Put([]byte("large"), make([]byte, 2<<20))
	}))
	require.NoError(t, s.Close())
	for i := range list {
		spoil(t, dir, "tasks", list[i].ID[:], damage)
	}
	s = open(t, dir, opts...)
	if fullBefore {
		fillForRetries(t, s, disk, "busy")
	}
	got := claim(t, s, 10)
	if fullBefore {
		require.Less(t, stats(t, s).Dead, uint64(victims))
	} else {
		w := stickWrites(disk)
		w.end(syscall.ENOSPC)
		require.NoError(t, s.Sync()) // what has failed is as it was before
		<-w.reached
	}
	disk.Inject(nil)
	time.Sleep(2 * time.Second) // the background looks for room every second
	require.NoError(t, stats(t, s).NoRoom)
	got = append(got, claim(t, s, 10)...)
	require.Len(t, got, 2)
	require.NoError(t, s.Sync())
	require.EqualValues(t, victims, stats(t, s).Dead)
	settle(t, s, outbox.Done, 0, got...)
	require.NoError(t, s.Flush())
	require.EqualValues(t, victims, stats(t, s).Damaged)
}

// fillForRetries fills the log until it has no room but for what ends tasks. It needs a task
// of its own for that.
func fillForRetries(t *testing.T, s *bolt.Store, disk *waltest.FS, name string) {
	t.Helper()
	fillUp(t, s, disk, year)
	for _, size := range [...]int{5000, 0} {
		for err := error(nil); err == nil; {
			c, cerr := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Match: func(n string) bool { return n == name }})
			require.NoError(t, cerr)
			err = s.Settle(t.Context(), []outbox.Outcome{{ID: c.Tasks[0].ID, Token: c.Tasks[0].Token, Verdict: outbox.Retry,
				Failure: outbox.Failure{Attempt: c.Tasks[0].Attempt, Error: strings.Repeat("x", size)}}})
			if err != nil {
				require.ErrorIs(t, err, outbox.ErrDiskFull)
				settle(t, s, outbox.Release, 0, c.Tasks...)
			}
		}
	}
}
