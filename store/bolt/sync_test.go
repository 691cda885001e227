package bolt_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// lossyMachine is a store whose log is on a disk in memory that can lose power; its database is a real file.
type lossyMachine struct {
	t    *testing.T
	disk *waltest.FS
	s    *bolt.Store
}

// boot starts a store on a disk, with the database as it was, nil for a new one. It works in the folder "store" of a
// temporary directory, as the name must be the same on both.
func boot(t *testing.T, disk *waltest.FS, db []byte, opts ...bolt.Option) *lossyMachine {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("store", 0o700))
	if db == nil {
		require.NoError(t, disk.Mkdir("store"))
		require.NoError(t, disk.SyncDir("."))
	} else {
		require.NoError(t, os.WriteFile("store/outbox.db", db, 0o600))
		require.NoError(t, os.Mkdir("store/wal", 0o700)) // the store asks the real disk whether there is a log
		require.NoError(t, os.WriteFile("store/wal/0000000000000001.wal", nil, 0o600))
	}
	m := &lossyMachine{t: t, disk: disk}
	s, err := bolt.Open("store", append(opts, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10), quiet)...)
	require.NoError(t, err)
	m.s = s
	return m
}

// database returns the database file as it is now.
func (m *lossyMachine) database() []byte {
	m.t.Helper()
	db, err := os.ReadFile(filepath.Join("store", "outbox.db"))
	require.NoError(m.t, err)
	return db
}

// happening is something that happened to a task, in the log or, at position 0, in a transaction.
type happening struct {
	pos  wal.Position
	name string
	gone bool
}

// moment is one at which the power may go: before an operation of the log.
type moment struct {
	ops     int
	db      []byte
	events  int // how many were known to have happened
	synced  wal.Position
	written wal.Position
}

// lives does some work on a store at a level, and notes the moments before each operation of the log.
func lives(t *testing.T, level bolt.SyncLevel) (disk *waltest.FS, events []happening, cuts []moment) {
	disk = waltest.New()
	m := boot(t, disk, nil, bolt.WithSync(level), bolt.WithAckSync(time.Hour))
	s := m.s
	var commit sync.Mutex // held while a transaction commits, when the file is not of one moment
	var known atomic.Int64
	var db []byte
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind < waltest.ReadDir && commit.TryLock() {
			defer commit.Unlock()
			// Others work meanwhile: what is known to be synced must be so after the operations that count,
			// and the file must be of one moment.
			synced, acked, before := s.LogSynced(), int(known.Load()), s.Writing()
			now := m.database()
			ops, written := disk.Ops(), s.LogNext()-1
			if before || s.Writing() || !bytes.Equal(now, m.database()) {
				return nil
			}
			if !bytes.Equal(db, now) {
				db = now
			}
			cuts = append(cuts, moment{ops, db, acked, synced, written})
		}
		return nil
	})
	add := func(n int) {
		list := create(t, s, tasks(len(events), n)...)
		for i := range list {
			events = append(events, happening{pos: s.LogNext() - 1, name: list[i].Name})
		}
		known.Store(int64(len(events)))
	}
	settle := func(n int) {
		list := claim(t, s, n)
		done(t, s, list...)
		for _, one := range list {
			events = append(events, happening{s.LogNext() - 1, one.Name, true})
		}
		known.Store(int64(len(events)))
		require.NoError(t, s.Sync())
	}
	inTx := func() {
		one := tasks(len(events), 1)
		commit.Lock()
		defer commit.Unlock()
		err := s.Update(t.Context(), func(tx *bbolt.Tx) error { return s.Create(bolt.WithTx(t.Context(), tx), one) })
		require.NoError(t, err)
		events = append(events, happening{name: one[0].Name})
		known.Store(int64(len(events)))
	}
	maintain := func(f func() error) { require.NoError(t, f()) }
	for range 3 {
		add(1)
		add(3)
		settle(2)
		inTx()
		maintain(s.Lighten)
		add(1)
		maintain(s.Flush)
		settle(3)
		for range 12 {
			add(15) // on to the next segments
		}
		maintain(s.Lighten)
		add(1)
		settle(150)
		maintain(s.Lighten)
		settle(40)
		maintain(s.Flush)
		add(1)
	}
	require.NoError(t, s.Close())
	return disk, events, cuts
}

// remaining returns the names that wait when the log ends with record p, and so many events were known to have happened.
func remaining(events []happening, known int, p wal.Position) map[string]bool {
	there := map[string]bool{}
	for i, e := range events {
		switch {
		case e.pos > p || e.pos == 0 && i >= known:
		case e.gone:
			delete(there, e.name)
		default:
			there[e.name] = true
		}
	}
	return there
}

// TestSync_PowerCut cuts the power between all operations, at each level. Whatever the level, the store opens, and is as
// it was after one of the records that were written, none of those that were synced missing; at Always that is the last
// that was acknowledged (P1, P2, R6, R8).
func TestSync_PowerCut(t *testing.T) {
	for _, level := range []bolt.SyncLevel{bolt.Always, bolt.Interval(time.Hour), bolt.Never} {
		t.Run(level.String(), func(t *testing.T) {
			disk, events, cuts := lives(t, level)
			lossy, step := 0, 3
			if os.Getenv("GOUTBOX_TORTURE") != "" {
				step = 1
			}
			for i := 0; i < len(cuts); i++ {
				c := cuts[i]
				if i%step != 0 {
					continue
				}
				for seed := range uint64(2) {
					seed = seed * uint64(i+2) // lose all, and a mixture
					m := boot(t, disk.Crash(c.ops, seed), c.db, bolt.WithSync(level))
					got := map[string]bool{}
					for _, n := range names(t, m.s) {
						got[n] = true
					}
					fits := slices.ContainsFunc(between(c.synced, c.written), func(p wal.Position) bool {
						return maps.Equal(got, remaining(events, c.events, p))
					})
					require.True(t, fits, "cut %d, seed %d: %d tasks, records %d to %d", i, seed, len(got), c.synced, c.written)
					if !maps.Equal(got, remaining(events, c.events, c.written)) {
						lossy++
					}
					stats(t, m.s)
					require.NoError(t, m.s.Close())
				}
			}
			t.Logf("%d of %d moments, %d states have lost what was written last", (len(cuts)+step-1)/step, len(cuts), lossy)
			if level != bolt.Always {
				require.Positive(t, lossy)
			}
		})
	}
}

func between(from, to wal.Position) (all []wal.Position) {
	for p := from; p <= to; p++ {
		all = append(all, p)
	}
	return all
}

// TestSync_FailedSyncThenPowerCut: a sync fails and drops its pages, the process restarts, reads the record all the same,
// and moves it to the database. A power cut then must not leave a log that ends before the checkpoint (R10).
func TestSync_FailedSyncThenPowerCut(t *testing.T) {
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprintf("full %v", full), func(t *testing.T) {
			disk := waltest.New()
			m := boot(t, disk, nil)
			create(t, m.s, tasks(0, 2)...)
			disk.Inject(func(op waltest.Op) *waltest.Fault {
				if op.Kind != waltest.Sync || filepath.Ext(op.Name) != ".wal" {
					return nil
				}
				return &waltest.Fault{Err: waltest.ErrIO, Drop: true}
			})
			require.ErrorIs(t, m.s.Create(t.Context(), tasks(2, 1)), outbox.ErrPoisoned)
			require.Error(t, m.s.Close())
			disk.Inject(nil)
			disk.Kill()
			if full {
				for _, n := range disk.Names("store/wal") {
					if filepath.Ext(n) == ".spare" {
						require.NoError(t, disk.Remove("store/wal/"+n))
					}
				}
				disk.SetFree(0)
			}

			m = boot(t, disk, m.database())
			require.Equal(t, []string{"n000000", "n000001", "n000002"}, names(t, m.s))
			var db []byte
			m.s.Freeze(func() { db = m.database() })
			ops := disk.Ops()
			require.NoError(t, m.s.Close(), "P9: what is accepted is in the log")
			m = boot(t, disk.Crash(ops, 0), db)
			require.Equal(t, []string{"n000000", "n000001", "n000002"}, names(t, m.s), "written again, be it in its place")
			require.NoError(t, m.s.Close())
		})
	}
}

// TestSync_FailedInterval: the sync of an interval fails, and everybody is told (P10).
func TestSync_FailedInterval(t *testing.T) {
	disk := waltest.New()
	m := boot(t, disk, nil, bolt.WithSync(bolt.Interval(time.Millisecond)))
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Sync || filepath.Ext(op.Name) != ".wal" {
			return nil
		}
		return &waltest.Fault{Err: waltest.ErrIO, Drop: true}
	})
	_ = m.s.Create(t.Context(), tasks(0, 1)) // the sync may be earlier than the answer
	require.Eventually(t, func() bool {
		_, err := m.s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Lease: time.Hour})
		return err != nil
	}, 30*time.Second, time.Millisecond)
	_, err := m.s.Claim(t.Context(), outbox.ClaimRequest{Max: 1})
	require.ErrorIs(t, err, outbox.ErrPoisoned)
	require.ErrorIs(t, m.s.Create(t.Context(), tasks(1, 1)), outbox.ErrPoisoned)
	require.ErrorIs(t, m.s.Close(), outbox.ErrPoisoned)
}

// TestSync_Interval: what was accepted is synced before long, and then the disk is left alone.
func TestSync_Interval(t *testing.T) {
	m := boot(t, waltest.New(), nil, bolt.WithSync(bolt.Interval(10*time.Millisecond)))
	create(t, m.s, tasks(0, 3)...)
	require.Eventually(t, func() bool { return m.s.LogSynced() == m.s.LogNext()-1 }, 30*time.Second, time.Millisecond)
	require.EqualValues(t, 1, stats(t, m.s).Syncs)
	require.Equal(t, "every 10ms", stats(t, m.s).SyncLevel)
	require.NoError(t, m.s.Close())
}

func TestSync_Levels(t *testing.T) {
	for text, level := range map[string]bolt.SyncLevel{
		"always": bolt.Always, "every 1s": bolt.Interval(time.Second), "never": bolt.Never,
	} {
		s := open(t, t.TempDir(), bolt.WithSync(level))
		require.Equal(t, text, stats(t, s).SyncLevel)
	}
	require.Equal(t, bolt.Always, bolt.Interval(0))
	require.Equal(t, bolt.Always, bolt.Interval(-time.Second))
	require.Equal(t, "always", stats(t, open(t, t.TempDir())).SyncLevel)
	require.Equal(t, "always", stats(t, open(t, t.TempDir(), bolt.WithSync(-5))).SyncLevel)
}

// TestSync_NoOldIDs: what a power cut has taken may have been delivered before. Its IDs are not handed out again, though the
// clock stands still (P4).
func TestSync_NoOldIDs(t *testing.T) {
	disk := waltest.New()
	clock := bolt.WithWallClock(func() time.Time { return time.Unix(1, 0) })
	m := boot(t, disk, nil, bolt.WithSync(bolt.Never), clock)
	first := create(t, m.s, tasks(0, 1)...)
	require.NoError(t, m.s.Flush())
	var db []byte
	m.s.Freeze(func() { db = m.database() })
	ops, lost := disk.Ops(), create(t, m.s, tasks(1, 3)...)
	require.NoError(t, m.s.Close())
	m = boot(t, disk.Crash(ops, 0), db, bolt.WithSync(bolt.Never), clock)
	again := create(t, m.s, tasks(1, 3)...)
	for _, a := range again {
		require.Positive(t, a.ID.Compare(first[0].ID))
		for _, b := range lost {
			require.NotEqual(t, b.ID, a.ID)
		}
	}
	require.NoError(t, m.s.Close())
}

// BenchmarkSyncLevels accepts events one at a time, on the real disk.
func BenchmarkSyncLevels(b *testing.B) {
	for _, level := range []bolt.SyncLevel{bolt.Always, bolt.Interval(time.Second), bolt.Never} {
		b.Run(level.String(), func(b *testing.B) {
			s, err := bolt.Open(b.TempDir(), bolt.WithSync(level), quiet)
			require.NoError(b, err)
			for i := 0; b.Loop(); i++ {
				if err := s.Create(b.Context(), tasks(i, 1)); err != nil {
					b.Fatal(err)
				}
			}
			st, err := s.Stats(b.Context())
			require.NoError(b, err)
			b.ReportMetric(float64(st.Syncs)/float64(b.N), "syncs/op")
			require.NoError(b, s.Close())
		})
	}
}
