package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// parking is a task that parks its key when it dies.
func parking(name, key string) outbox.Task {
	task := keyed(name, key)
	task.KeyPolicy = outbox.ParkWholeKey
	return task
}

// deadNames lists the dead letters.
func deadNames(t *testing.T, s outbox.Store) (list []string) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		require.NoError(t, err)
		list = append(list, task.Name)
	}
	return list
}

// parkedStore has a key with a dead letter that parks it, all of it in the database, and
// one task behind it.
func parkedStore(t *testing.T) (dir string, first outbox.Task) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	create(t, s, parking("1", "k"))
	first = claim(t, s, 1)[0]
	bury(t, s, first)
	create(t, s, keyed("2", "k"))
	require.NoError(t, s.Close())
	return dir, first
}

// A lane that is in memory learns of the dead letter that leaves it (P4): here its head was
// accepted while a checkpoint wrote the dead letter.
func TestPark_LaneLearns(t *testing.T) {
	s := open(t, t.TempDir())
	await(t, func() bool { return s.Spares() > 0 }) // the background has made room ahead of need
	require.NoError(t, s.Flush())
	create(t, s, parking("1", "k"))
	got := claim(t, s, 1)
	bury(t, s, got...)
	require.NoError(t, s.Sync())
	flushed := make(chan error, 1)
	require.NoError(t, s.Update(t.Context(), func(*bbolt.Tx) error { // the checkpoint waits for its end
		go func() { flushed <- s.Flush() }()
		await(t, func() bool { return s.MidFlush(got[0].ID) })
		create(t, s, keyed("2", "k"))
		return nil
	}))
	require.NoError(t, <-flushed)
	require.Equal(t, 1, s.InMemory())
	require.Empty(t, claim(t, s, 10))
	require.Equal(t, []string{"1", "2"}, deadNames(t, s))
}

// A dead letter whose value turns out to be damaged ends nothing but itself: its key goes
// on (P11). Before and after that the store agrees with itself.
func TestPark_Damaged(t *testing.T) {
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			dir, first := parkedStore(t)
			spoil(t, dir, "dead", first.ID[:], damage)
			r := verify(t, dir)
			require.False(t, r.OK())
			for _, f := range r.Findings {
				require.NotEqual(t, "parked", f.Bucket, r.String())
			}
			s := open(t, dir)
			require.Equal(t, []string{"1"}, idsAsNames(t, s, first), "listed, and so met")
			damagedNow(t, s, first.ID)
			require.NoError(t, s.Sync())
			require.Equal(t, []string{"2"}, drainNames(t, s), "before a checkpoint has taken it away")
			create(t, s, keyed("3", "k"))
			require.NoError(t, s.Flush())
			n, err := s.InBucket("parked")
			require.NoError(t, err)
			require.Zero(t, n)
			audit(t, s)
			require.NoError(t, s.Close())
			r = verify(t, dir)
			require.True(t, r.OK(), r.String())
			s = open(t, dir)
			require.Equal(t, []string{"3"}, drainNames(t, s))
		})
	}
}

// idsAsNames lists the dead, by ID, for a name may be damaged.
func idsAsNames(t *testing.T, s *bolt.Store, known ...outbox.Task) (list []string) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		require.NoError(t, err)
		for _, k := range known {
			if k.ID == task.ID {
				list = append(list, k.Name)
			}
		}
	}
	return list
}

// inBuckets changes the database of a closed store.
func inBuckets(t *testing.T, dir string, f func(root *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return f(tx.Bucket([]byte("goutbox"))) }))
	require.NoError(t, db.Close())
}

// What is wrong in the parked and the spent bucket is found by Verify and by Audit, mended
// by reindex, and made anew by Salvage (P11).
func TestPark_IndexDamaged(t *testing.T) {
	parked, spent := []byte("parked"), []byte("spent")
	anID := make([]byte, 16)
	firstOf := func(b *bbolt.Bucket, from string) []byte {
		k, _ := b.Cursor().Seek([]byte(from))
		return append([]byte(nil), k...)
	}
	for what, damage := range map[string]func(root *bbolt.Bucket) error{
		"parked is empty": func(root *bbolt.Bucket) error { return root.Bucket(parked).Delete(firstOf(root.Bucket(parked), "")) },
		"parked is gone":  func(root *bbolt.Bucket) error { return root.DeleteBucket(parked) },
		"parked by nobody": func(root *bbolt.Bucket) error {
			return root.Bucket(parked).Put(append([]byte{0, 1, 'x'}, anID...), nil)
		},
		"parked by another": func(root *bbolt.Bucket) error {
			k := firstOf(root.Bucket(parked), "")
			k[2] = 'x'
			return root.Bucket(parked).Put(k, nil)
		},
		"parked is short":        func(root *bbolt.Bucket) error { return root.Bucket(parked).Put([]byte{0}, nil) },
		"spent is not by time":   func(root *bbolt.Bucket) error { return root.Bucket(spent).Delete(firstOf(root.Bucket(spent), "t")) },
		"spent is only by time":  func(root *bbolt.Bucket) error { return root.Bucket(spent).Put([]byte("t12345678x"), nil) },
		"spent is of no kind":    func(root *bbolt.Bucket) error { return root.Bucket(spent).Put([]byte("z"), nil) },
		"spent has a wrong time": func(root *bbolt.Bucket) error { return root.Bucket(spent).Put(firstOf(root.Bucket(spent), "k"), anID) },
	} {
		for _, how := range []string{"audit", "reindex", "salvage"} {
			t.Run(what+", "+how, func(t *testing.T) {
				dir, _ := parkedStore(t)
				s := open(t, dir)
				create(t, s, outbox.Task{Event: outbox.Event{Name: "spent"}, Unique: "u", UniqueFor: year})
				done(t, s, claim(t, s, 1)...)
				require.NoError(t, s.Close())
				if how == "audit" {
					s, err := bolt.Open(dir, quiet)
					require.NoError(t, err)
					defer s.Close()
					require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { return damage(tx.Bucket([]byte("goutbox"))) }))
					_, err = s.Audit(t.Context())
					require.ErrorIs(t, err, outbox.ErrCorrupt)
					return
				}
				inBuckets(t, dir, damage)
				r := verify(t, dir)
				require.False(t, r.OK())
				if how == "salvage" {
					_, err := bolt.Salvage(dir, quiet)
					require.NoError(t, err)
					r = verify(t, dir)
					require.True(t, r.OK(), r.String())
				}
				s = open(t, dir) // which compares the indexes of a small store
				audit(t, s)
				require.Empty(t, drainNames(t, s), "the key is still parked")
				require.Equal(t, []string{"1", "2"}, deadNames(t, s))
				if what != "spent has a wrong time" {
					require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "x"}, Unique: "u"}}), outbox.ErrDuplicate)
				}
			})
		}
	}
}

// The quota of dead letters drops the one that parks a key, and the key goes on (P8).
func TestPark_QuotaDropsIt(t *testing.T) {
	for _, flush := range []bool{false, true} {
		t.Run(fmt.Sprint("in the database ", flush), func(t *testing.T) {
			s := open(t, t.TempDir(), bolt.WithMaxDead(1, 0))
			create(t, s, parking("1", "k"), keyed("late", "k"))
			bury(t, s, claim(t, s, 1)...)
			require.NoError(t, s.Sync())
			if flush {
				require.NoError(t, s.Flush())
			}
			create(t, s, named("other"))
			for _, task := range claim(t, s, 10) { // buries "late" on the way
				bury(t, s, task)
			}
			require.NoError(t, s.Sync())
			await(t, func() bool { return stats(t, s).DroppedBy.Quota == 2 })
			create(t, s, keyed("3", "k"))
			require.Equal(t, []string{"3"}, drainNames(t, s))
		})
	}
}

// Without room in the log for the death of what is parked, other keys go on (P9).
func TestPark_LogFull(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))
	create(t, s, parking("1", "k"))
	bury(t, s, claim(t, s, 1)...)
	create(t, s, tasks(0, 400)...)
	create(t, s, keyed("2", "k"), named("other"))
	require.NoError(t, s.Sync())
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Create {
			return &waltest.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	s.Freeze(func() { // or a checkpoint makes room
		size, fails := 1000, 0
		for _, task := range claim(t, s, 400) {
			err := s.Settle(t.Context(), []outbox.Outcome{{ID: task.ID, Token: task.Token, Verdict: outbox.Retry, Delay: year,
				Failure: outbox.Failure{Attempt: 1, Error: strings.Repeat("e", size)}}})
			if err != nil {
				require.ErrorIs(t, err, outbox.ErrDiskFull)
				size, fails = 0, fails+1 // what is left is for small ones
			}
		}
		require.Greater(t, fails, 1)
		// Retries that the log has not taken after all wait again, and may be there too.
		names := namesOf(claim(t, s, 1000))
		require.Contains(t, names, "other")
		require.NotContains(t, names, "2", "parked, and there is no room to say so")
	})
	disk.Inject(nil)
	await(t, func() bool {
		require.NotContains(t, namesOf(claim(t, s, 1000)), "2")
		return len(deadNames(t, s)) == 2
	})
}

// However many keys are parked, memory does not know of them but for what is going on (P7).
func TestPark_Memory(t *testing.T) {
	s := open(t, t.TempDir())
	const keys = 20_000
	for i := 0; i < keys; i += 1000 {
		var list []outbox.Task
		for k := range 1000 {
			list = append(list, parking("w", fmt.Sprint("key ", i+k)))
		}
		create(t, s, list...)
		bury(t, s, claim(t, s, 1000)...)
	}
	require.NoError(t, s.Flush())
	require.Zero(t, s.InMemory())
	require.Zero(t, s.Parks())
	n, err := s.InBucket("parked")
	require.NoError(t, err)
	require.Equal(t, keys, n)
	create(t, s, keyed("next", "key 777"), keyed("free", "key"))
	require.Equal(t, []string{"free"}, drainNames(t, s))
}

// A claim costs the same with 100,000 events behind a blocked key as with a hundred: they
// are not looked at.
func TestClaim_BehindKey(t *testing.T) {
	cost := func(behind int) (reads int64, allocs float64) {
		s := open(t, t.TempDir())
		blockKey(t, s, behind)
		require.NoError(t, s.Flush())
		before := s.Reads()
		allocs = testing.AllocsPerRun(20, func() { claimOther(t, s) })
		return s.Reads() - before, allocs
	}
	oneReads, oneAllocs := cost(100) // more than a look at the database takes
	reads, allocs := cost(100_000)
	t.Logf("reads %d and %d, allocations %.0f and %.0f", oneReads, reads, oneAllocs, allocs)
	require.Equal(t, oneReads, reads, "tasks read from the database")
	require.InDelta(t, oneAllocs, allocs, oneAllocs/4)
}

// blockKey makes a key whose head is in flight, with so many behind it.
func blockKey(t testing.TB, s outbox.Store, behind int) {
	ctx := context.Background()
	require.NoError(t, s.Create(ctx, []outbox.Task{keyed("head", "k")}))
	c, err := s.Claim(ctx, outbox.ClaimRequest{Max: 1, Lease: time.Hour})
	require.NoError(t, err)
	require.Len(t, c.Tasks, 1)
	for left := behind; left > 0; left -= 1000 {
		list := make([]outbox.Task, min(left, 1000))
		for i := range list {
			list[i] = outbox.Task{Event: outbox.Event{Name: "behind", Key: "k", Payload: make([]byte, 16)}}
		}
		require.NoError(t, s.Create(ctx, list))
	}
}

// claimOther accepts, claims and delivers an event without a key, and one of another key.
func claimOther(t testing.TB, s outbox.Store) {
	ctx := context.Background()
	require.NoError(t, s.Create(ctx, []outbox.Task{named("other"), keyed("other", "kk")}))
	for left := 2; left > 0; {
		c, err := s.Claim(ctx, outbox.ClaimRequest{Max: 10, Lease: time.Hour})
		require.NoError(t, err)
		require.NotEmpty(t, c.Tasks)
		for _, task := range c.Tasks {
			require.NoError(t, s.Settle(ctx, []outbox.Outcome{{ID: task.ID, Token: task.Token, Verdict: outbox.Done}}))
			left--
		}
	}
}

// BenchmarkClaim_BehindKey is a claim of what another key has, and its release, neither of
// which writes, beside a key whose head is in flight: what waits behind that must not matter.
func BenchmarkClaim_BehindKey(b *testing.B) {
	for _, behind := range []int{1, 1_000_000} {
		b.Run(fmt.Sprintf("behind=%d", behind), func(b *testing.B) {
			s, err := bolt.Open(b.TempDir(), quiet)
			require.NoError(b, err)
			defer s.Close()
			blockKey(b, s, behind)
			require.NoError(b, s.Create(b.Context(), []outbox.Task{keyed("other", "kk"), keyed("other too", "kk")}))
			require.NoError(b, s.Flush())
			b.ReportAllocs()
			for b.Loop() {
				c, err := s.Claim(b.Context(), outbox.ClaimRequest{Max: 10, Lease: time.Hour})
				if err != nil || len(c.Tasks) != 1 {
					b.Fatal(len(c.Tasks), err)
				}
				if err := s.Settle(b.Context(), []outbox.Outcome{{ID: c.Tasks[0].ID, Token: c.Tasks[0].Token, Verdict: outbox.Release}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
