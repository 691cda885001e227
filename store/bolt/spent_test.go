package bolt_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// once is a task whose Unique key stays taken for a time.
func once(key string, d time.Duration) outbox.Task {
	task := named("once")
	task.Unique, task.UniqueFor = key, d
	return task
}

// deliverOnce accepts and delivers events with Unique keys of these numbers.
func deliverOnce(t *testing.T, s outbox.Store, from, n int, d time.Duration) {
	t.Helper()
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = once(fmt.Sprint("key ", from+i), d)
	}
	create(t, s, list...)
	got := claim(t, s, n)
	require.Len(t, got, n)
	done(t, s, got...)
}

func takenNow(t *testing.T, s outbox.Store, key string) {
	t.Helper()
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{once(key, 0)}), outbox.ErrDuplicate)
}

// A hundred thousand keys that are taken since a delivery are on disk, not on the heap (P7).
func TestSpent_Memory(t *testing.T) {
	const keys = 100_000
	s := open(t, t.TempDir(), bolt.WithAckSync(time.Hour))
	heap := watchHeap(t)
	for i := 0; i < keys; i += 1000 {
		deliverOnce(t, s, i, 1000, year)
	}
	heap.stage("delivering", 60<<20, 30<<20)
	require.NoError(t, s.Flush())
	require.Zero(t, s.InMemory())
	n, err := s.InBucket("spent")
	require.NoError(t, err)
	require.Equal(t, 2*keys, n)
	for i := 0; i < keys; i += 97 {
		takenNow(t, s, fmt.Sprint("key ", i))
	}
	require.Zero(t, s.InMemory(), "asking brings nothing into memory")
	heap.stage("refusing", 40<<20, 8<<20)
	require.NoError(t, s.Compact())
	takenNow(t, s, "key 0")
}

// Keys whose time is over leave the database: with each checkpoint some of them, and when
// nothing else goes on, all.
func TestSpent_Cleaned(t *testing.T) {
	in := func(d *device) int {
		n, err := d.s.InBucket("spent")
		require.NoError(d, err)
		return n
	}
	t.Run("by checkpoints", func(t *testing.T) {
		onDevice(t, func(d *device) {
			deliverOnce(d.T, d.s, 0, 1200, time.Minute/2)
			deliverOnce(d.T, d.s, 1200, 10, time.Hour)
			require.NoError(d, d.s.Flush())
			require.Equal(d, 2420, in(d))
			d.s = d.h.off(d.T, d.s, time.Minute/2).(*bolt.Store)
			before := in(d)
			for want := before - 1024; want > 20; want -= 1024 {
				create(d.T, d.s, named("any"))
				require.NoError(d, d.s.Flush())
				require.Equal(d, want, in(d), "512 at a time")
			}
			create(d.T, d.s, named("any"))
			require.NoError(d, d.s.Flush())
			require.Equal(d, 20, in(d))
			takenNow(d.T, d.s, "key 1200")
			create(d.T, d.s, once("key 0", 0))
		})
	})
	t.Run("in the background", func(t *testing.T) {
		onDevice(t, func(d *device) {
			deliverOnce(d.T, d.s, 0, 1200, time.Hour)
			deliverOnce(d.T, d.s, 1200, 10, year)
			d.sleep(30 * time.Minute)
			require.Equal(d, 2420, in(d))
			d.sleep(time.Hour)
			require.Equal(d, 20, in(d))
			written := stats(d.T, d.s).BytesWritten
			d.sleep(24 * time.Hour)
			require.Equal(d, written, stats(d.T, d.s).BytesWritten, "and nothing is written after that (P6)")
		})
	})
	t.Run("too late for the database", func(t *testing.T) {
		onDevice(t, func(d *device) {
			deliverOnce(d.T, d.s, 0, 5, time.Second)
			d.sleep(2 * time.Second)
			create(d.T, d.s, once("key 0", year)) // while the entry before is still in memory
			require.NoError(d, d.s.Flush())
			require.Zero(d, in(d))
			done(d.T, d.s, claim(d.T, d.s, 1)...)
			require.NoError(d, d.s.Flush())
			require.Equal(d, 2, in(d))
			takenNow(d.T, d.s, "key 0")
		})
	})
}

// The key is taken after each kind of restart, and free when its time on the store's clock
// has passed (P12), wherever it is kept.
func TestSpent_Restart(t *testing.T) {
	for _, flush := range []bool{false, true} {
		t.Run(fmt.Sprint("the task was in the database ", flush), func(t *testing.T) {
			eachEnd(t, func(d *device, restart func()) {
				create(d.T, d.s, once("key", time.Hour))
				if flush {
					require.NoError(d, d.s.Flush())
				}
				done(d.T, d.s, claim(d.T, d.s, 1)...)
				takenNow(d.T, d.s, "key")
				for range 3 {
					restart()
					takenNow(d.T, d.s, "key")
					audit(d.T, d.s)
				}
				d.sleep(50 * time.Minute)
				takenNow(d.T, d.s, "key")
				d.sleep(20 * time.Minute)
				create(d.T, d.s, once("key", 0))
			})
		})
	}
}

// A wall clock that lies frees no key early, as it ends no time-to-live; an honest break
// counts.
func TestSpent_Clock(t *testing.T) {
	for name, c := range map[string]struct {
		years int
		off   time.Duration
		free  bool
	}{
		"right":           {0, 0, false},
		"off for an hour": {0, time.Hour, true},
		"back":            {-50, 0, false},
		"ahead":           {50, 0, false},
		"ahead by a year": {1, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(d *device) {
				deliverOnce(d.T, d.s, 0, 1, time.Hour)
				d.years(c.years)
				d.s = d.h.off(d.T, d.s, c.off).(*bolt.Store)
				if c.free {
					create(d.T, d.s, once("key 0", 0))
					return
				}
				takenNow(d.T, d.s, "key 0")
				d.sleep(61 * time.Minute)
				create(d.T, d.s, once("key 0", 0))
			})
		})
	}
}

// What was settled and is not durable is lost in a crash, and the key with it: the task
// waits again, and holds it (P3).
func TestSpent_CrashBeforeSync(t *testing.T) {
	h := newHarness(bolt.WithAckSync(1000 * time.Hour))
	s := h.open(t, t.TempDir()).(*bolt.Store)
	create(t, s, once("key", time.Hour))
	done(t, s, claim(t, s, 1)...)
	takenNow(t, s, "key")
	s = h.crash(t, s).(*bolt.Store)
	defer s.Close()
	takenNow(t, s, "key")
	got := claim(t, s, 1)
	require.Len(t, got, 1)
	n, err := s.Delete(t.Context(), got[0].ID)
	require.ErrorIs(t, err, outbox.ErrInFlight)
	require.Zero(t, n)
	bury(t, s, got...)
	create(t, s, once("key", 0))
}

// A transaction sees what memory and the database know of the key.
func TestSpent_Tx(t *testing.T) {
	s := open(t, t.TempDir())
	deliverOnce(t, s, 0, 1, time.Hour)
	for range 2 {
		require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
			require.ErrorIs(t, s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{once("key 0", 0)}), outbox.ErrDuplicate)
			return nil
		}))
		require.NoError(t, inTx(t, s, nil, once("another", 0)))
		done(t, s, claim(t, s, 1)...)
		require.NoError(t, s.Flush())
	}
}

// A value that is damaged counts as free, and is named: in the log, by Verify, and in what
// Salvage gives back (P11).
func TestSpent_Damaged(t *testing.T) {
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			deliverOnce(t, s, 0, 2, year)
			require.NoError(t, s.Close())
			spoil(t, dir, "spent", []byte("kkey 0"), damage)
			r := verify(t, dir)
			require.False(t, r.OK())

			salvaged := t.TempDir()
			copyDir(t, dir, salvaged)
			got, err := bolt.Salvage(salvaged, quiet)
			require.NoError(t, err)
			require.Equal(t, 1, got.Spent)
			require.Contains(t, got.String(), "1 unique keys are free")
			for _, dir := range []string{dir, salvaged} {
				s, err := bolt.Open(dir, quiet)
				require.NoError(t, err)
				takenNow(t, s, "key 1")
				create(t, s, once("key 0", year))
				done(t, s, claim(t, s, 1)...)
				require.NoError(t, s.Flush())
				takenNow(t, s, "key 0")
				audit(t, s)
				require.NoError(t, s.Close())
				r = verify(t, dir)
				require.True(t, r.OK(), r.String())
			}
		})
	}
	t.Run("while it is open", func(t *testing.T) {
		var log logged
		s := log.open(t, t.TempDir())
		deliverOnce(t, s, 0, 1, year)
		require.NoError(t, s.Flush())
		require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("goutbox")).Bucket([]byte("spent")).Put([]byte("kkey 0"), []byte("damaged"))
		}))
		create(t, s, once("key 0", 0))
		require.Equal(t, 1, log.count("is damaged, and counts as free"))
		done(t, s, claim(t, s, 1)...)
		require.NoError(t, s.Reindex())
		audit(t, s)
	})
}
