package bolt_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// watched counts what a watcher hears.
type watched struct {
	mu      sync.Mutex
	dropped outbox.Dropped
	buried  outbox.Buried
	syncs   int
	records uint64
}

func (w *watched) watch(s *bolt.Store, t *testing.T) outbox.Watch {
	return outbox.Watch{
		Dropped: func(r outbox.Reason, n uint64) {
			_, err := s.Stats(context.Background()) // no lock is held
			if err != nil {
				require.ErrorIs(t, err, outbox.ErrClosed)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.dropped.Add(r, n)
		},
		Buried: func(r outbox.Reason, n uint64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if r == outbox.ReasonDamaged {
				w.buried.Damaged += n
			} else {
				w.buried.KeyParked += n
			}
		},
		Synced: func(records uint64, took time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			require.Positive(t, took)
			w.syncs++
			w.records += records
		},
	}
}

func (w *watched) heard() (outbox.Dropped, int, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped, w.syncs, w.records
}

// Watchers hear of every drop, whatever has dropped it, and of syncs.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), bolt.WithMaxTasks(4), bolt.WithOverflow(bolt.DropOldest))
	var w, stopped watched
	s.Watch(w.watch(s, t))
	s.Watch(stopped.watch(s, t))()
	s.Watch(outbox.Watch{})

	latest := tasks(0, 2)
	for i := range latest {
		latest[i].LatestOnly = "k"
		create(t, s, latest[i])
	}
	for i := range 5 { // of these six in all two must go
		create(t, s, tasks(2+i, 1)...)
	}
	_, err := s.Delete(t.Context(), first(t, s).ID)
	require.NoError(t, err)
	expiring := tasks(10, 1)
	expiring[0].TTL = time.Nanosecond
	create(t, s, expiring...)
	claim(t, s, 10)
	want := stats(t, s).DroppedBy
	require.Positive(t, want.Coalesced)
	require.Positive(t, want.Quota)
	require.Positive(t, want.Deleted)
	require.Positive(t, want.Expired)
	require.NoError(t, s.Close())
	dropped, syncs, records := w.heard()
	require.Equal(t, want, dropped, "Close has waited for it")
	require.Positive(t, syncs)
	require.GreaterOrEqual(t, records, uint64(9))
	dropped, syncs, _ = stopped.heard()
	require.Zero(t, dropped.Total())
	require.Zero(t, syncs)
	s.Watch(w.watch(s, t))()
}

// first returns the oldest task.
func first(t *testing.T, s *bolt.Store) outbox.Task {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{Limit: 1}) {
		require.NoError(t, err)
		return task
	}
	t.Fatal("there is none")
	return outbox.Task{}
}

// A watcher that hangs keeps nobody from working.
func TestWatch_Hangs(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	release, hangs := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.Watch(outbox.Watch{
		Dropped: func(outbox.Reason, uint64) { once.Do(func() { close(hangs) }); <-release },
		Synced:  func(uint64, time.Duration) {},
	})
	_, err := s.Delete(t.Context(), create(t, s, tasks(0, 1)...)[0].ID)
	require.NoError(t, err)
	<-hangs
	for i := range 200 { // more than the syncs that are kept for it
		list := create(t, s, tasks(i, 1)...)
		done(t, s, claim(t, s, 1)...)
		require.Len(t, list, 1)
	}
	require.EqualValues(t, 200, stats(t, s).Delivered)
	close(release)
}

// What was dropped before the restart is not told again.
func TestWatch_Recovery(t *testing.T) {
	t.Parallel()
	dir, crashed := t.TempDir(), t.TempDir()
	s := open(t, dir)
	_, err := s.Delete(t.Context(), create(t, s, tasks(0, 1)...)[0].ID)
	require.NoError(t, err)
	s.Freeze(func() { copyDir(t, dir, crashed) })
	again := open(t, crashed)
	require.EqualValues(t, 1, stats(t, again).DroppedBy.Deleted)
	var w watched
	again.Watch(w.watch(again, t))
	require.NoError(t, again.Close())
	dropped, _, _ := w.heard()
	require.Zero(t, dropped)
}

// Watchers hear of tasks that turn out to be damaged, once; not of dead letters, which are
// dead already, nor of what a replay of the log does again.
func TestWatch_Damaged(t *testing.T) {
	t.Parallel()
	list := tasks(0, 4)
	for i := range list {
		list[i].Name = string(rune('a' + i))
	}
	dir, made := inDatabase(t, list...)
	s := open(t, dir)
	got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Match: func(name string) bool { return name == "d" }})
	require.NoError(t, err)
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{
		{ID: got.Tasks[0].ID, Token: got.Tasks[0].Token, Verdict: outbox.Bury, Reason: outbox.ReasonPermanent}}))
	require.NoError(t, s.Close())
	for _, name := range []string{"a", "b"} {
		id := made[name].ID
		spoil(t, dir, "tasks", id[:], noise)
	}
	id := made["d"].ID
	spoil(t, dir, "dead", id[:], noise)

	s = open(t, dir)
	var w watched
	s.Watch(w.watch(s, t))
	for err := error(nil); err == nil; _, err = s.Delete(t.Context(), made["c"].ID) { // until it is gone
	}
	for _, err := range s.Tasks(t.Context(), outbox.Filter{}) { // which meets them all
		require.NoError(t, err)
	}
	require.NoError(t, s.Sync())
	crashed := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, crashed) })
	require.NoError(t, s.Close())
	w.mu.Lock()
	require.Equal(t, outbox.Buried{Damaged: 2}, w.buried)
	w.mu.Unlock()

	s = open(t, crashed)
	var again watched
	s.Watch(again.watch(s, t))
	st, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, st.Damaged)
	require.NoError(t, s.Close())
	require.Zero(t, again.buried)
}
