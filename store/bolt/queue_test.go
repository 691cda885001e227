package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// called makes n tasks of one name, the payload of each of which is its number.
func called(name string, n int) []outbox.Task {
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = outbox.Task{Event: outbox.Event{Name: name, Payload: fmt.Append(nil, i)}, MaxAttempts: 3}
	}
	return list
}

// claimNamed claims what has this name.
func claimNamed(t *testing.T, s outbox.Store, name string, most int) outbox.Claimed {
	t.Helper()
	got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: most, Lease: time.Hour, Match: func(n string) bool { return n == name }})
	require.NoError(t, err)
	for _, task := range got.Tasks {
		require.Equal(t, name, task.Name)
	}
	return got
}

// What waits for a destination that is away costs a claim for another one nothing,
// however much of it there is, and no memory (P6, P7).
func TestQueues_OthersCostNothing(t *testing.T) {
	const mine = 2000
	read := func(others int) (places, memory int) {
		s := open(t, t.TempDir())
		for n := 0; n < others; n += 1000 {
			create(t, s, called("away", 1000)...)
		}
		create(t, s, called("here", mine)...)
		require.NoError(t, s.Flush())
		before := s.PlacesRead()
		for n := 0; n < mine; {
			got := claimNamed(t, s, "here", 16)
			require.Len(t, got.Tasks, 16)
			require.Equal(t, fmt.Sprint(n), string(got.Tasks[0].Payload), "oldest first")
			n += len(got.Tasks)
			done(t, s, got.Tasks...)
		}
		got := claimNamed(t, s, "here", 16)
		require.Empty(t, got.Tasks)
		require.Equal(t, outbox.Forever, got.NextIn, "what does not match is no reason to wake")
		return s.PlacesRead() - before, s.InMemory()
	}
	many := 300_000
	if underRace {
		many = 10_000
	}
	places, memory := read(0)
	placesBeside, memoryBeside := read(many)
	require.Less(t, places, mine+100)
	require.Equal(t, places, placesBeside)
	require.Equal(t, memory, memoryBeside)
}

// An unbounded number of names takes no unbounded memory, and all are delivered (P7).
// Queues of which nothing is left leave memory.
func TestQueues_ManyNames(t *testing.T) {
	const names, most = 50, 8
	dir, opts := t.TempDir(), []bolt.Option{bolt.WithMaxQueues(most), bolt.WithOverlay(100, 1000)}
	s := open(t, dir, opts...)
	for range 4 {
		for i := range names {
			create(t, s, called(fmt.Sprint("device-", i), 1)...)
		}
		require.LessOrEqual(t, s.Queues(), most+1)
		require.NoError(t, s.Flush())
	}
	require.NoError(t, s.Close())
	s = open(t, dir, opts...)
	require.LessOrEqual(t, s.Queues(), most+1)
	for i := range rand.Perm(names) {
		got := claimNamed(t, s, fmt.Sprint("device-", i), 10).Tasks
		require.Len(t, got, 4)
		done(t, s, got...)
		if i%10 == 0 {
			require.NoError(t, s.Flush())
			audit(t, s)
		}
	}
	require.Empty(t, claim(t, s, 1))
	require.NoError(t, s.Flush())
	require.Empty(t, claim(t, s, 1))
	require.Zero(t, s.Queues())
	create(t, s, called("device-49", 1)...)
	require.Equal(t, 1, s.Queues(), "there is room for names again")
}

// In the queue of the many a claim looks at a bounded number of tasks that it does not
// want, and says that there is nothing rather than that it should try again.
func TestQueues_CrowdInFront(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxQueues(1))
	create(t, s, called("first", 1)...)
	create(t, s, called("away", 4*bolt.CrowdAhead)...)
	create(t, s, called("here", 1)...)
	require.NoError(t, s.Flush())
	for range 3 {
		got := claimNamed(t, s, "here", 1)
		require.Empty(t, got.Tasks)
		require.Equal(t, outbox.Forever, got.NextIn)
	}
	require.Less(t, s.PlacesRead(), 2*bolt.CrowdAhead)
	var n int
	for got := claimNamed(t, s, "away", 500); len(got.Tasks) > 0; got = claimNamed(t, s, "away", 500) {
		n += len(got.Tasks)
		done(t, s, got.Tasks...)
	}
	require.Equal(t, 4*bolt.CrowdAhead, n)
	require.Len(t, claimNamed(t, s, "here", 1).Tasks, 1)
}

// A name that comes in a transaction counts before the transaction ends, one that was
// rolled back no longer.
func TestQueues_InTransaction(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxQueues(4))
	errNo := errors.New("rolled back")
	for _, end := range []error{errNo, nil} {
		err := s.Update(t.Context(), func(tx *bbolt.Tx) error {
			for i := range 10 {
				create(t, inside{s, tx}, called(fmt.Sprint("n", i), 1)...)
			}
			return end
		})
		require.ErrorIs(t, err, end)
	}
	require.LessOrEqual(t, s.Queues(), 5)
	for i := range 10 {
		require.Len(t, claimNamed(t, s, fmt.Sprint("n", i), 10).Tasks, 1)
	}
}

// inside is a store whose Create joins a transaction.
type inside struct {
	*bolt.Store
	tx *bbolt.Tx
}

func (i inside) Create(ctx context.Context, tasks []outbox.Task) error {
	return i.Store.Create(bolt.WithTx(ctx, i.tx), tasks)
}

// The newest come first from the database as from memory, while others come, and
// checkpoints take what was read out of memory again; each is read a few times at most.
func TestQueues_Newest(t *testing.T) {
	const backlog, batch = 4000, 40
	dir, opts := t.TempDir(), []bolt.Option{bolt.WithOverlay(600, 2000)}
	s := open(t, dir, opts...)
	var waiting []outbox.ID // rising
	more := func(n int) {
		for _, task := range create(t, s, called("n", n)...) {
			waiting = append(waiting, task.ID)
		}
	}
	for n := 0; n < backlog; n += 400 {
		more(400)
	}
	require.NoError(t, s.Close())
	s = open(t, dir, opts...)
	random := rand.New(rand.NewPCG(1, 2))
	read := s.PlacesRead()
	for round := 0; len(waiting) > 0; round++ {
		if round < 50 {
			more(10)
		}
		if random.IntN(8) == 0 {
			require.NoError(t, s.Flush())
			audit(t, s)
		}
		newest := random.IntN(10) > 0
		got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: batch, Lease: time.Hour, Newest: newest})
		require.NoError(t, err)
		require.Len(t, got.Tasks, min(batch, len(waiting)))
		for _, task := range got.Tasks {
			at := 0
			if newest {
				at = len(waiting) - 1
			}
			require.Equal(t, waiting[at], task.ID, "round %d, newest %v", round, newest)
			waiting = slices.Delete(waiting, at, at+1)
		}
		done(t, s, got.Tasks...)
		require.LessOrEqual(t, s.InMemory(), 4000)
	}
	require.Less(t, s.PlacesRead()-read, 6*backlog)
}

// What becomes due comes in its turn, and wakes whoever waits for it.
func TestQueues_NewestBecomesDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		newest := func() outbox.Claimed {
			got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Lease: 24 * time.Hour, Newest: true})
			require.NoError(t, err)
			return got
		}
		soon := outbox.Task{Event: outbox.Event{Name: "n"}, Delay: 50 * time.Millisecond}
		old := create(t, s, append(called("n", 3), soon)...)
		create(t, s, outbox.Task{Event: outbox.Event{Name: "n"}, Delay: time.Hour})
		require.NoError(t, s.Flush())
		got := newest()
		require.Equal(t, old[2].ID, got.Tasks[0].ID)
		settle(t, s, outbox.Release, 0, got.Tasks...)
		time.Sleep(50 * time.Millisecond)
		for _, next := range []outbox.Task{old[3], old[2], old[1], old[0]} {
			got = newest()
			require.Len(t, got.Tasks, 1)
			require.Equal(t, next.ID, got.Tasks[0].ID)
		}
		got = newest()
		require.Empty(t, got.Tasks)
		require.Equal(t, time.Hour-50*time.Millisecond, got.NextIn)
	})
}

// What a store of an earlier version has waiting is found by name as well, and costs
// opening nothing (P8).
func TestQueues_OfEarlierVersions(t *testing.T) {
	for _, from := range []string{"testdata/v1", "testdata/v2"} {
		t.Run(from, func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, from, dir)
			s := open(t, dir)
			for task := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
				_, err := s.Requeue(t.Context(), task.ID) // the others are not due for a year
				require.NoError(t, err)
			}
			require.NoError(t, s.Flush())
			create(t, s, outbox.Task{Event: outbox.Event{Name: "log dead"}, Priority: outbox.High})
			require.NoError(t, s.Flush())
			audit(t, s)
			require.Empty(t, claimNamed(t, s, "new", 10).Tasks)
			got := claimNamed(t, s, "log dead", 10).Tasks
			require.Len(t, got, 2)
			require.Equal(t, outbox.High, got[0].Priority)
			require.Equal(t, outbox.Normal, got[1].Priority)
			require.EqualValues(t, 9, stats(t, s).PendingByPriority.Normal)
			done(t, s, got...)
			newest, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 100, Newest: true})
			require.NoError(t, err)
			require.Len(t, newest.Tasks, 1)
			done(t, s, newest.Tasks...)
			require.NoError(t, s.Flush())
			usageIsRight(t, s)
			require.NoError(t, s.Reindex())
			audit(t, s)
		})
	}
}

// A place in the wrong queue is found by all who look: a claim has it mended.
func TestQueues_WrongPlace(t *testing.T) {
	dir, made := inDatabase(t, keyed("plain", ""), keyed("other", ""))
	id := made["plain"].ID
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("goutbox")).Bucket([]byte("due"))
		c := b.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if moved := slices.Clone(k); bytes.HasSuffix(k, id[:]) {
				moved[0] = 0 // the class High
				require.NoError(t, b.Delete(k))
				return b.Put(moved, nil)
			}
		}
		return errors.New("it is not listed")
	}))
	require.NoError(t, db.Close())
	r := verify(t, dir)
	require.False(t, r.OK())
	require.Contains(t, r.String(), "listed in queue")
	s := open(t, dir) // it is small, and mended at once
	audit(t, s)
	require.ElementsMatch(t, []string{"plain", "other"}, drainNames(t, s))
}
