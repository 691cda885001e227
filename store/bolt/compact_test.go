package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

var torture = os.Getenv("GOUTBOX_TORTURE") != ""

const never = time.Hour // a compaction that the test calls for itself

// backlog accepts events of 1,000 bytes, in sum so many, and has them in the database.
func backlog(t *testing.T, s *bolt.Store, bytes int) (events int) {
	t.Helper()
	for ; events*1000 < bytes; events += 500 {
		list := tasks(events, 500)
		for i := range list {
			list[i].Payload = make([]byte, 1000)
		}
		create(t, s, list...)
	}
	require.NoError(t, s.Flush())
	return events
}

func drainAll(t *testing.T, s *bolt.Store) (delivered int) {
	t.Helper()
	for got := claim(t, s, 500); len(got) > 0; got = claim(t, s, 500) {
		done(t, s, got...)
		delivered += len(got)
	}
	return delivered
}

// P8, R36: when a backlog has drained, the file shrinks to what lives and a reserve, by
// itself and while the store is open.
func TestStore_CompactsByItself(t *testing.T) {
	bytes := 24 << 20
	if torture {
		bytes = 1 << 30
	}
	s := open(t, t.TempDir(), bolt.WithCompaction(4<<20, 10*time.Millisecond, nil))
	events := backlog(t, s, bytes)
	before := stats(t, s).DatabaseBytes
	require.Greater(t, before, uint64(bytes))
	require.Equal(t, events, drainAll(t, s))
	kept := create(t, s, tasks(0, 100)...)
	require.NoError(t, s.Flush())
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.Less(c, stats(t, s).DatabaseBytes, uint64(4<<20))
	}, time.Minute, 10*time.Millisecond)
	t.Logf("%d events: %d bytes, %d after draining", events, before, stats(t, s).DatabaseBytes)
	require.Len(t, names(t, s), len(kept))
	require.Equal(t, len(kept), drainAll(t, s))
	require.EqualValues(t, events+len(kept), stats(t, s).Delivered)
}

// crowdedStore has a large file with few live tasks in it, of every kind, and data of
// the application.
func crowdedStore(t *testing.T, dir string, opts ...bolt.Option) *bolt.Store {
	t.Helper()
	s := open(t, dir, append(opts, bolt.WithSegmentBytes(64<<10))...)
	backlog(t, s, 3<<20)
	drainAll(t, s)
	list := tasks(0, 40)
	for i := range list {
		list[i].Key, list[i].Unique = fmt.Sprint("k", i%7), fmt.Sprint("u", i)
	}
	create(t, s, list...)
	for i, task := range claim(t, s, 3) {
		verdict := []outbox.Verdict{outbox.Done, outbox.Retry, outbox.Bury}[i]
		require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: task.ID, Token: task.Token, Verdict: verdict, Reason: "no"}}))
	}
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("mine"))
		if err != nil {
			return err
		}
		inner, err := b.CreateBucketIfNotExists([]byte("inner"))
		if err != nil {
			return err
		}
		return errors.Join(b.Put([]byte("a"), []byte{}), b.SetSequence(7), inner.SetSequence(9), inner.Put([]byte("b"), []byte("c")))
	}))
	require.NoError(t, s.Flush())
	return s
}

// checkCrowded checks that nothing of a crowdedStore is missing.
func checkCrowded(t *testing.T, s *bolt.Store) {
	t.Helper()
	st := stats(t, s)
	require.EqualValues(t, 38, st.Pending+st.InFlight, "without one delivered and one dead")
	require.EqualValues(t, 1, st.Dead)
	require.Len(t, names(t, s), 39)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("mine"))
		require.Equal(t, []byte{}, b.Get([]byte("a")))
		require.EqualValues(t, 7, b.Sequence())
		require.Equal(t, []byte("c"), b.Bucket([]byte("inner")).Get([]byte("b")))
		require.EqualValues(t, 9, b.Bucket([]byte("inner")).Sequence())
		return nil
	}))
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "again"}, Unique: "u30"}}), outbox.ErrDuplicate)
}

// A crash between any two steps of a compaction leaves a store with everything in it,
// and without rubbish once it was opened (R3, R36).
func TestStore_CompactCrash(t *testing.T) {
	dir, copies := t.TempDir(), map[string]string{}
	var steps []string
	s := crowdedStore(t, dir, bolt.WithCompaction(0, never, func(step string) {
		steps = append(steps, step)
		copies[step] = t.TempDir()
		assert.NoError(t, os.CopyFS(copies[step], os.DirFS(dir)))
	}))
	before := stats(t, s).DatabaseBytes
	require.NoError(t, s.Compact())
	require.Less(t, stats(t, s).DatabaseBytes, before/2)
	checkCrowded(t, s)
	require.Equal(t, []string{"created", "copied", "synced", "renaming", "renamed", "replaced", "closed"}, steps)
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			again := open(t, copies[step], bolt.WithSegmentBytes(64<<10))
			checkCrowded(t, again)
			require.NoFileExists(t, filepath.Join(copies[step], "outbox.db.tmp"))
			require.NoError(t, again.Close())
			whole(t, copies[step])
		})
	}
	require.NoError(t, s.Close())
	whole(t, dir)
	checkCrowded(t, open(t, dir))
}

// whole checks every page of a store that is closed.
func whole(t *testing.T, dir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			require.NoError(t, err)
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

// A compaction that can not be done leaves the store as it was.
func TestStore_CompactFails(t *testing.T) {
	dir := t.TempDir()
	s := crowdedStore(t, dir, bolt.WithCompaction(0, never, nil))
	inTheWay := filepath.Join(dir, "outbox.db.tmp", "x")
	require.NoError(t, os.MkdirAll(inTheWay, 0o700))
	require.Error(t, s.Compact())
	checkCrowded(t, s)
	require.NoError(t, os.RemoveAll(filepath.Dir(inTheWay)))
	require.NoError(t, s.Compact())
	checkCrowded(t, s)
}

// What was committed while the copy was made is not lost: the copy is thrown away, and
// little data is copied once more with the writer lock held.
func TestStore_CompactAfterCommit(t *testing.T) {
	var s *bolt.Store
	commits := 0
	s = crowdedStore(t, t.TempDir(), bolt.WithCompaction(0, never, func(step string) {
		if step == "synced" && commits == 0 {
			commits++
			assert.NoError(t, s.Update(context.Background(), func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("mine")).Put([]byte("late"), []byte("x"))
			}))
		}
	}))
	before := stats(t, s).DatabaseBytes
	require.NoError(t, s.Compact())
	require.Equal(t, 1, commits)
	require.Less(t, stats(t, s).DatabaseBytes, before/2)
	checkCrowded(t, s)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		require.Equal(t, []byte("x"), tx.Bucket([]byte("mine")).Get([]byte("late")))
		return nil
	}))
}

// An open store stays locked through a compaction (R7).
func TestStore_CompactKeepsLocks(t *testing.T) {
	dir := t.TempDir()
	s := crowdedStore(t, dir, bolt.WithCompaction(0, never, nil))
	require.NoError(t, s.Compact())
	_, err := bolt.Open(dir, quiet)
	require.ErrorIs(t, err, outbox.ErrLocked)
	_, err = bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, &bbolt.Options{Timeout: 10 * time.Millisecond})
	require.Error(t, err)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		require.Equal(t, filepath.Join(dir, "outbox.db"), tx.DB().Path())
		return nil
	}))
}

// Where an open file can not be replaced, Open compacts.
func TestStore_CompactAtOpen(t *testing.T) {
	dir := t.TempDir()
	s := crowdedStore(t, dir, bolt.WithCompaction(0, never, nil))
	before := stats(t, s).DatabaseBytes
	require.NoError(t, s.Close())
	s = open(t, dir, bolt.WithCompaction(0, never, nil), bolt.WithCompactionAtOpen(), bolt.WithSegmentBytes(64<<10))
	require.Less(t, stats(t, s).DatabaseBytes, before/2)
	checkCrowded(t, s)
}

// Everything goes on during compactions, and sees what it would see without them.
func TestStore_CompactBesideWork(t *testing.T) {
	var compacted atomic.Int32
	s := open(t, t.TempDir(), bolt.WithSegmentBytes(64<<10), bolt.WithOverlay(256, 1024),
		bolt.WithCompaction(0, time.Millisecond, func(step string) {
			if step == "closed" {
				compacted.Add(1)
			}
		}))
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var inTx atomic.Int64
	loop := func(f func() error) {
		work.Go(func() {
			for ctx.Err() == nil {
				if !assert.NoError(t, f()) {
					return
				}
			}
		})
	}
	loop(func() error { _, err := s.Stats(t.Context()); return err })
	loop(func() error {
		for _, err := range s.Tasks(t.Context(), outbox.Filter{Limit: 300}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	loop(func() error {
		return s.Update(t.Context(), func(tx *bbolt.Tx) error {
			inTx.Add(1)
			b, err := tx.CreateBucketIfNotExists([]byte("mine"))
			if err != nil {
				return err
			}
			n := len(b.Get([]byte("n")))
			if int64(n)+1 != inTx.Load() {
				return fmt.Errorf("%d commits in the database, %d made", n, inTx.Load()-1)
			}
			if err := s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 1)); err != nil {
				return err
			}
			return b.Put([]byte("n"), make([]byte, n+1))
		})
	})
	want := int32(3)
	if torture {
		want = 50
	}
	accepted, delivered := 0, 0
	for deadline := time.Now().Add(2 * time.Minute); compacted.Load() < want && time.Now().Before(deadline); {
		accepted += backlog(t, s, 2<<20)
		delivered += drainAll(t, s)
		require.NoError(t, s.Flush())
	}
	stop()
	work.Wait()
	require.GreaterOrEqual(t, compacted.Load(), want)
	delivered += drainAll(t, s)
	require.Equal(t, accepted+int(inTx.Load()), delivered)
	require.EqualValues(t, delivered, stats(t, s).Delivered)
}

// The longest time that a caller waits while 1 GiB is compacted is printed, not judged:
// the machine does other things too. Long form only.
func TestStore_CompactGap(t *testing.T) {
	if !torture {
		t.Skip("GOUTBOX_TORTURE is not set")
	}
	var during atomic.Bool
	s := open(t, t.TempDir(), bolt.WithCompaction(0, never, nil))
	events := backlog(t, s, 1<<30)
	require.Equal(t, events, drainAll(t, s))
	create(t, s, tasks(0, 10_000)...)
	require.NoError(t, s.Flush())
	require.Equal(t, 10_000/2, len(claim(t, s, 10_000/2)))

	var work sync.WaitGroup
	end := make(chan struct{})
	var gaps [2][2]time.Duration // create, claim and settle; outside, during
	note := func(kind int, start time.Time, busy bool) {
		at := 0
		if busy || during.Load() {
			at = 1
		}
		gaps[kind][at] = max(gaps[kind][at], time.Since(start))
	}
	work.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			busy, start := during.Load(), time.Now()
			if !assert.NoError(t, s.Create(context.Background(), tasks(0, 1))) {
				return
			}
			note(0, start, busy)
		}
	})
	work.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			busy, start := during.Load(), time.Now()
			got, err := s.Claim(context.Background(), outbox.ClaimRequest{Max: 1, Lease: time.Hour})
			if err == nil && len(got.Tasks) == 1 {
				err = s.Settle(context.Background(), []outbox.Outcome{{ID: got.Tasks[0].ID, Token: got.Tasks[0].Token, Verdict: outbox.Done}})
			}
			if !assert.NoError(t, err) {
				return
			}
			note(1, start, busy)
		}
	})
	time.Sleep(5 * time.Second) // the same without a compaction, to compare with
	before, start := stats(t, s).DatabaseBytes, time.Now()
	during.Store(true)
	require.NoError(t, s.Compact())
	during.Store(false)
	took := time.Since(start)
	close(end)
	work.Wait()
	t.Logf("%d bytes to %d in %v; longest create %v (%v without), longest claim and settle %v (%v without)",
		before, stats(t, s).DatabaseBytes, took, gaps[0][1], gaps[0][0], gaps[1][1], gaps[1][0])
}
