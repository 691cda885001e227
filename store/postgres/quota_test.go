package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

func list(t *testing.T, s outbox.Store, states ...outbox.State) (all []outbox.Task) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: states}) {
		require.NoError(t, err)
		all = append(all, task)
	}
	return all
}

// P8: a quota holds across instances, however many accept at once.
func TestQuota_Reject(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver, postgres.WithMaxTasks(10))
		other := open(t, db, table, postgres.WithMaxTasks(10))
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				for range 5 {
					err := []outbox.Store{s, other}[n%2].Create(context.WithoutCancel(t.Context()), []outbox.Task{event("a")})
					if err != nil {
						require.ErrorIs(t, err, outbox.ErrFull)
					}
				}
			})
		}
		all.Wait()
		require.Len(t, list(t, s), 10)
		require.ErrorIs(t, s.Create(t.Context(), make([]outbox.Task, 11)), outbox.ErrTooLarge)
		got := claim(t, s, 3, aWhile)
		require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{event("b")}), outbox.ErrFull, "what is in flight counts")
		require.NoError(t, settle(t, s, outbox.Done, got[0]))
		require.NoError(t, settle(t, s, outbox.Bury, got[1]))
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("b"), event("b")}))
		require.NoError(t, other.Close())
	})
}

// The oldest that waits goes, never what is in flight, and a gap tells of it.
func TestQuota_DropOldest(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver, postgres.WithMaxTasks(3), postgres.WithOverflow(postgres.DropOldest))
		var dropped uint64
		defer s.Watch(outbox.Watch{Dropped: func(r outbox.Reason, n uint64) {
			require.Equal(t, outbox.ReasonQuota, r)
			dropped += n
		}})()
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("flies")}))
		require.Len(t, claim(t, s, 1, aWhile), 1)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("1", key("k")), event("2", key("k"))}))
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("3", key("k"))}))
		require.Equal(t, "flies 2 3", names(list(t, s)))
		require.EqualValues(t, 1, dropped)
		tx, ctx := begin(t, db, 0)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("4"), event("5")}))
		require.NoError(t, tx.Commit())
		require.Equal(t, "flies 2 3 4 5", names(list(t, s)), "a transaction may exceed the quota")
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("6")}))
		require.Equal(t, "flies 5 6", names(list(t, s)))
		got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Lease: aWhile, Gaps: true})
		require.NoError(t, err)
		var g outbox.Gap
		require.Equal(t, outbox.GapName, names(got.Tasks))
		require.NoError(t, got.Tasks[0].Decode(&g))
		require.EqualValues(t, 4, g.Count)
		require.NoError(t, settle(t, s, outbox.Retry, got.Tasks...))
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("7")}))
		require.Equal(t, "flies "+outbox.GapName+" 7", names(list(t, s)), "a gap is not dropped while it waits")
		require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{event("8"), event("8")}), outbox.ErrFull)
	})
}

// Block waits for room, until the context ends.
func TestQuota_Block(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		opts := []postgres.Option{postgres.WithMaxTasks(1), postgres.WithOverflow(postgres.Block), postgres.WithRetryInterval(5 * time.Millisecond)}
		s, db, table := newStore(t, driver, opts...)
		other := open(t, db, table, opts...)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
		short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		err := s.Create(short, []outbox.Task{event("b")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		done := make(chan error, 1)
		go func() { done <- s.Create(context.WithoutCancel(t.Context()), []outbox.Task{event("b")}) }()
		require.NoError(t, settle(t, other, outbox.Done, claim(t, other, 1, aWhile)...))
		require.NoError(t, <-done)
		require.Equal(t, "b", names(list(t, s)))
		require.NoError(t, other.Close())
	})
}

func TestQuota_Dead(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, _, _ := newStore(t, driver, postgres.WithMaxDead(2))
		for _, name := range []string{"1", "2", "3"} {
			require.NoError(t, s.Create(t.Context(), []outbox.Task{event(name, key("k"))}))
			require.NoError(t, settle(t, s, outbox.Bury, claim(t, s, 1, aWhile)...))
		}
		require.Equal(t, "2 3", names(list(t, s, outbox.Dead)))
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, st.DroppedBy.Quota)
	})
}
