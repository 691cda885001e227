package bolt_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// foreign are tasks as another store would export them, with IDs of an hour ago.
func foreign(n int) []outbox.Task {
	list := tasks(0, n)
	at := time.Now().Add(-time.Hour)
	for i := range list {
		_ = list[i].ID.SetTime(uint64(at.UnixMilli()))
		list[i].ID[14], list[i].ID[15] = byte(i>>8), byte(i+1)
		list[i].CreatedAt = at
	}
	return list
}

func imports(t *testing.T, s *bolt.Store, want int, list ...outbox.Task) {
	t.Helper()
	n, err := s.Import(t.Context(), list)
	require.NoError(t, err)
	require.Equal(t, want, n)
}

// buried makes a dead letter of a foreign task.
func buried(task outbox.Task) outbox.Task {
	task.State, task.Reason, task.Attempts = outbox.Dead, outbox.ReasonPermanent, 1
	task.Failures = []outbox.Failure{{At: time.Now(), Attempt: 1, Error: "no"}}
	return task
}

// The database names the holder of a LatestOnly key until a checkpoint knows that it is
// gone. What is imported later, with a lower ID, is not outdated by it after a crash (P1).
func TestStore_Import_AfterTheLatest(t *testing.T) {
	h := newHarness()
	s := h.open(t, t.TempDir()).(*bolt.Store)
	newer := named("new")
	newer.LatestOnly = "l"
	create(t, s, newer)
	require.NoError(t, s.Flush())
	done(t, s, claim(t, s, 1)...)
	old := foreign(1)
	old[0].LatestOnly = "l"
	imports(t, s, 1, old...)
	s = h.crash(t, s).(*bolt.Store)
	require.Equal(t, []string{"n000000"}, names(t, s))
	require.Len(t, claim(t, s, 10), 1)
	require.NoError(t, s.Close())
}

// A task that comes from elsewhere says when it was created, which is not when this store's
// clock was read (P12).
func TestStore_Import_Clock(t *testing.T) {
	const day = 24 * time.Hour
	eachEnd(t, func(d *device, restart func()) {
		list := foreign(2)
		for i := range list {
			list[i].CreatedAt, list[i].Delay = time.Now().Add(-3*day), time.Hour
		}
		imports(d.T, d.s, 1, list[0])
		create(d.T, d.s, tasks(1, 1)...)
		imports(d.T, d.s, 1, list[1])
		d.set(time.Now().Add(-2 * day))
		restart()
		got := claim(d.T, d.s, 10)
		require.Len(d, got, 1, "no time has passed")
		done(d.T, d.s, got...)
		time.Sleep(time.Hour)
		require.Len(d, claim(d.T, d.s, 10), 2)
	})
}

// Whatever the policy, nothing is dropped for what is imported, and nobody waits. Dead
// letters need no room.
func TestStore_Import_Quota(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block, bolt.DropOldest} {
		t.Run(policy.String(), func(t *testing.T) {
			s := open(t, t.TempDir(), bolt.WithMaxTasks(4), bolt.WithOverflow(policy))
			list := foreign(8)
			list[5], list[6] = buried(list[5]), buried(list[6])
			_, err := s.Import(t.Context(), list[:5])
			require.ErrorIs(t, err, outbox.ErrTooLarge)
			imports(t, s, 3, list[:3]...)
			_, err = s.Import(t.Context(), list[:5])
			require.ErrorIs(t, err, outbox.ErrTooLarge, "also what is passed over")
			for range 2 {
				_, err = s.Import(t.Context(), list[3:7])
				require.ErrorIs(t, err, outbox.ErrFull)
				audit(t, s)
			}
			imports(t, s, 3, list[4:7]...)
			usageIsRight(t, s)
			st := stats(t, s)
			require.EqualValues(t, 4, st.Pending)
			require.EqualValues(t, 2, st.Dead)
			require.Zero(t, st.Dropped)
			done(t, s, claim(t, s, 1)...)
			imports(t, s, 1, list[3:4]...)
		})
	}
}

// What finds no room on the disk is taken back, the dead too, and comes in later (P5, P9).
func TestStore_Import_DiskFull(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	opts := []bolt.Option{bolt.WithLogFS(disk), bolt.WithSegmentBytes(64 << 10)}
	s := open(t, dir, opts...)
	list := foreign(40)
	for i := range list {
		list[i].Payload = make([]byte, 8000)
		list[i].Key = fmt.Sprint("k", i%3)
		if i%4 == 0 {
			list[i] = buried(list[i])
			list[i].KeyPolicy = outbox.ParkWholeKey
		}
	}
	create(t, s, tasks(0, 3)...)
	before := stats(t, s)
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Create {
			return &waltest.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	_, err := s.Import(t.Context(), list)
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	audit(t, s)
	after := stats(t, s)
	require.Equal(t, [4]uint64{before.Accepted, before.Pending, before.Dead, before.PendingBytes},
		[4]uint64{after.Accepted, after.Pending, after.Dead, after.PendingBytes})
	require.Zero(t, after.DeadBytes)
	disk.Inject(nil)
	await(t, func() bool {
		n, err := s.Import(t.Context(), list)
		return err == nil && n == len(list)
	})
	usageIsRight(t, s)
	require.NoError(t, s.Close())
	again := open(t, dir, opts...)
	require.Len(t, names(t, again), 43)
	require.EqualValues(t, 10, stats(t, again).Dead)
}

// At every level of WithSync what was imported is synced: where it comes from it is
// deleted next.
func TestStore_Import_Syncs(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSync(bolt.Never))
	list := foreign(2)
	create(t, s, tasks(0, 1)...)
	before := stats(t, s).Syncs
	imports(t, s, 2, list...)
	require.Greater(t, stats(t, s).Syncs, before)
}

// The dead that are imported count towards their quota, and the oldest go.
func TestStore_Import_DeadQuota(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxDead(2, 0))
	list := foreign(5)
	for i := range list {
		list[i] = buried(list[i])
	}
	imports(t, s, 5, list...)
	await(t, func() bool { return stats(t, s).Dead == 2 })
	require.Equal(t, []string{"n000003", "n000004"}, names(t, s))
	require.EqualValues(t, 3, stats(t, s).DroppedBy.Quota)
}

// What a newer task has replaced in a transaction waits until a claim drops it, and is not
// exported meanwhile.
func TestStore_Export_Outdated(t *testing.T) {
	s := open(t, t.TempDir())
	create(t, s, latestOf("old", "l"))
	require.NoError(t, s.Flush())
	require.NoError(t, inTx(t, s, nil, latestOf("new", "l")))
	var got []string
	for task, err := range s.Export(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		got = append(got, task.Name)
	}
	require.Equal(t, []string{"new"}, got)
}

// A task of which the end is not durable yet is not passed over, but comes anew, as one whose
// end is: what ends it may be the copy that took it away from here.
func TestStore_Import_BesideItsOwnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), bolt.WithAckSync(1000*time.Hour))
		defer func() { require.NoError(t, s.Close()) }() // nobody is left in the bubble
		list := foreign(1)
		imports(t, s, 1, list...)
		for range 2 {
			done(t, s, claim(t, s, 1)...)
			require.True(t, s.Unsynced())
			imports(t, s, 1, list...)
			require.Len(t, names(t, s), 1)
			require.NoError(t, s.Flush())
		}
		audit(t, s)
	})
}

// A key that has no place in the database is refused, as Create refuses it, and not found out
// by a checkpoint when the task is accepted already (P1).
func TestStore_Import_LongKeys(t *testing.T) {
	s := open(t, t.TempDir())
	long := strings.Repeat("k", 1<<16)
	for name, set := range map[string]func(*outbox.Task){
		"key":    func(t *outbox.Task) { t.Key = long },
		"unique": func(t *outbox.Task) { t.Unique = long },
		"latest": func(t *outbox.Task) { t.LatestOnly = long },
	} {
		list := foreign(2)
		set(&list[1])
		_, err := s.Import(t.Context(), list)
		require.ErrorIs(t, err, outbox.ErrTooLarge, name)
	}
	require.Zero(t, stats(t, s).Accepted)
	require.NoError(t, s.Flush())
}
