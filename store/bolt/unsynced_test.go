package bolt_test

import (
	"errors"
	"os"
	"path/filepath"
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

// powerCut is what a power cut at this moment leaves of a store: the log as far as it was
// synced, and the database, whose commits were.
type powerCut struct {
	log      *waltest.FS
	database []byte
}

func cutPower(t *testing.T, s *bolt.Store, dir string, disk *waltest.FS) (p powerCut) {
	t.Helper()
	var err error
	s.Freeze(func() {
		p.database, err = os.ReadFile(filepath.Join(dir, "outbox.db"))
		p.log = disk.Crash(disk.Ops(), 0)
	})
	require.NoError(t, err)
	return p
}

// A transaction is committed with a LatestOnly key while the dead letter that has held it,
// and is requeued, waits for its sync. Whatever is synced by then, the transaction's event is
// the newest: the dead letter stays one, or is outdated, but is not delivered with it or
// behind it, nor counted twice (P5).
func TestRequeue_BesideATransaction(t *testing.T) {
	for _, where := range []string{"log", "database"} {
		for _, cut := range []string{"none", "before the sync", "after the sync", "after the delivery", "after a checkpoint"} {
			t.Run(where+", power cut "+cut, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { requeueBesideATransaction(t, where == "database", cut, nil) })
			})
		}
		t.Run(where+", full disk", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { requeueBesideATransaction(t, where == "database", "none", syscall.ENOSPC) })
		})
	}
}

func requeueBesideATransaction(t *testing.T, inDatabase bool, cut string, fault error) {
	dir := t.TempDir()
	disk := logDisk(t, dir)
	reopen := func() *bolt.Store {
		return open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10), bolt.WithAckSync(1000*time.Hour))
	}
	s := reopen()
	front := create(t, s, keyed("front", "k"))
	old := create(t, s, ready("old", "k"))[0]
	bury(t, s, claim(t, s, 1)...)
	bury(t, s, claim(t, s, 1)...)
	_, err := s.Requeue(t.Context(), front[0].ID)
	require.NoError(t, err)
	settle(t, s, outbox.Retry, year, claim(t, s, 1)...) // no claim comes upon what is behind it
	require.NoError(t, s.Sync())
	if inDatabase {
		require.NoError(t, s.Flush())
	}
	require.NoError(t, s.Prepare())

	w := stickWrites(disk)
	result := make(chan error, 1)
	go func() {
		_, err := s.Requeue(t.Context(), old.ID)
		result <- err
	}()
	<-w.reached
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{ready("new", "")})
	}))
	after := map[string]powerCut{}
	step := func(name string) { after[name] = cutPower(t, s, dir, disk) }
	step("before the sync")
	w.end(fault)
	require.True(t, errors.Is(<-result, outbox.ErrDiskFull) == (fault != nil))
	disk.Inject(nil)
	time.Sleep(2 * time.Second) // the background looks for room every second
	step("after the sync")
	if cut == "none" || cut == "after the delivery" || cut == "after a checkpoint" {
		got := claim(t, s, 10)
		require.Len(t, got, 1)
		require.Equal(t, "new", got[0].Name)
		done(t, s, got...)
		require.NoError(t, s.Sync())
		step("after the delivery")
		require.NoError(t, s.Flush())
		step("after a checkpoint")
	}
	require.NoError(t, s.Close())
	if cut != "none" {
		disk = after[cut].log
		require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), after[cut].database, 0o600))
	}
	s = reopen()
	audit(t, s)
	got := claim(t, s, 10)
	if cut == "before the sync" || cut == "after the sync" {
		require.Len(t, got, 1)
		require.Equal(t, "new", got[0].Name)
		done(t, s, got...)
		require.NoError(t, s.Flush())
	}
	_, err = s.Delete(t.Context(), front[0].ID)
	require.NoError(t, err)
	require.Empty(t, claim(t, s, 10))
	st := stats(t, s)
	require.EqualValues(t, 1, st.Delivered)
	if fault != nil || cut == "before the sync" {
		require.EqualValues(t, 1, st.Dead)
	} else {
		require.EqualValues(t, 1, st.DroppedBy.Coalesced)
	}
}

// What was replaced in flight, and died, is new again when it is requeued, for the one that
// had replaced it is gone.
func TestRequeue_Outdated(t *testing.T) {
	eachLatest(t, func(s *latestStore, way string) {
		create(s.T, s.Store, ready("old", ""))
		old := s.claims("old")
		create(s.T, s.Store, ready("new", ""))
		bury(s.T, s.Store, old...)
		done(s.T, s.Store, s.claims("new")...)
		_, err := s.Requeue(s.Context(), old[0].ID)
		require.NoError(s, err)
		s.then(way)
		s.claims("old")
		s.coalesced(0)
	})
}

// A transaction may take a key, or stand behind it, because of an outcome that a power cut
// then takes back: what was settled waits again, in front of what the transaction has
// committed (P3, P4), or is outdated by it, and the ledger is right (P5).
func TestSettle_UnsyncedBesideATransaction(t *testing.T) {
	for kind, with := range map[string]func(*outbox.Task){
		"ordering key": func(t *outbox.Task) { t.Key = "k" },
		"parked key":   func(t *outbox.Task) { t.Key, t.KeyPolicy = "k", outbox.ParkKey },
		"Unique key":   func(t *outbox.Task) { t.Unique = "u" },
		"LatestOnly":   func(t *outbox.Task) { t.LatestOnly = "l" },
	} {
		for verdict, v := range map[string]outbox.Verdict{"done": outbox.Done, "retry": outbox.Retry, "bury": outbox.Bury} {
			for _, where := range []string{"log", "database"} {
				if kind == "Unique key" && verdict == "retry" {
					continue // it holds its key
				}
				t.Run(kind+", "+verdict+", "+where, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { settleBesideATransaction(t, with, v, where == "database") })
				})
			}
		}
	}
}

func settleBesideATransaction(t *testing.T, with func(*outbox.Task), v outbox.Verdict, inDatabase bool) {
	dir := t.TempDir()
	disk := logDisk(t, dir)
	reopen := func() *bolt.Store {
		return open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10), bolt.WithAckSync(1000*time.Hour))
	}
	s := reopen()
	old, after := named("old"), named("new")
	with(&old)
	with(&after)
	create(t, s, old)
	if inDatabase {
		require.NoError(t, s.Flush())
	}
	settle(t, s, v, 0, claim(t, s, 1)...)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{after})
	}))
	require.True(t, s.Unsynced())
	left := cutPower(t, s, dir, disk)
	require.NoError(t, s.Close())
	disk = left.log
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), left.database, 0o600))
	s = reopen()
	audit(t, s)
	require.EqualValues(t, 2, stats(t, s).Pending)
	order := drainNames(t, s)
	if old.LatestOnly != "" {
		require.Equal(t, []string{"new"}, order)
	} else {
		require.Equal(t, []string{"old", "new"}, order)
	}
	require.NoError(t, s.Flush())
	usageIsRight(t, s)
}
