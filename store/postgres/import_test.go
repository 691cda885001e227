package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// exported are events as another store would list them.
func exported(n int, with ...func(*outbox.Task)) []outbox.Task {
	tasks := make([]outbox.Task, n)
	for i := range tasks {
		tasks[i] = event("name 7", with...)
		tasks[i].ID = outbox.ID{14: byte(i >> 8), 15: byte(i)}
		tasks[i].ID[5], tasks[i].CreatedAt = 1, time.Now().Add(-time.Hour)
	}
	return tasks
}

// Two who import the same at once, as two processes that copy one store do, accept each event
// once, and neither is refused.
func TestImport_TwoAtOnce(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		other := open(t, db, table)
		const rounds, size = 20, 100
		tasks := exported(rounds * size)
		var taken [2]int
		var both sync.WaitGroup
		for i, one := range []*postgres.Store{s, other} {
			both.Go(func() {
				for n := 0; n < len(tasks); n += size {
					got, err := one.Import(context.Background(), tasks[n:n+size])
					if taken[i] += got; err != nil {
						t.Errorf("import: %v", err)
					}
				}
			})
		}
		both.Wait()
		require.NoError(t, other.Close())
		require.Equal(t, len(tasks), taken[0]+taken[1])
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(tasks), st.Accepted)
		require.EqualValues(t, len(tasks), st.Pending)
	})
}

// A quota refuses what is imported whatever its policy, and drops nothing for it (P8); one of
// dead letters keeps the newest.
func TestImport_Quota(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		dead := func(task *outbox.Task) { task.State, task.Reason = outbox.Dead, outbox.ReasonPermanent }
		for _, policy := range []postgres.Overflow{postgres.Reject, postgres.Block, postgres.DropOldest} {
			s, _, _ := newStore(t, driver, postgres.WithMaxTasks(3), postgres.WithOverflow(policy), postgres.WithMaxDead(2))
			require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a"), event("b")}))
			n, err := s.Import(t.Context(), exported(2))
			require.ErrorIs(t, err, outbox.ErrFull)
			require.Zero(t, n)
			n, err = s.Import(t.Context(), exported(1))
			require.NoError(t, err)
			require.Equal(t, 1, n)
			later := exported(6, dead)[1:]
			n, err = s.Import(t.Context(), later) // they need no room
			require.NoError(t, err)
			require.Equal(t, 5, n)
			st, err := s.Stats(t.Context())
			require.NoError(t, err)
			require.Equal(t, [4]uint64{8, 3, 2, 3}, [4]uint64{st.Accepted, st.Pending, st.Dead, st.DroppedBy.Quota})
			var left []outbox.ID
			for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
				require.NoError(t, err)
				left = append(left, task.ID)
			}
			require.Equal(t, []outbox.ID{later[3].ID, later[4].ID}, left)
		}
	})
}

// What a transaction has replaced, and no claim has seen to yet, is not exported.
func TestExport_LatestOnlyOfTransactions(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		for n := range 3 {
			tx, ctx := begin(t, db, sql.LevelDefault)
			require.NoError(t, s.Create(ctx, []outbox.Task{event(fmt.Sprint(n), func(task *outbox.Task) { task.LatestOnly = "l" })}))
			require.NoError(t, tx.Commit())
		}
		got := exports(t, s)
		require.Len(t, got, 1)
		require.Equal(t, "2", got[0].Name)
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, st.DroppedBy.Coalesced)

		// While another instance is at that, they are left out all the same.
		busy, _ := begin(t, db, sql.LevelDefault)
		_, err = busy.Exec(`SELECT pg_advisory_xact_lock($1)`, s.SweepLock())
		require.NoError(t, err)
		tx, ctx := begin(t, db, sql.LevelDefault)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("3", func(task *outbox.Task) { task.LatestOnly = "l" })}))
		require.NoError(t, tx.Commit())
		got = exports(t, s)
		require.Len(t, got, 1)
		require.Equal(t, "3", got[0].Name)
		require.NoError(t, busy.Rollback())
	})
}

func exports(t *testing.T, s outbox.Exporter) (all []outbox.Task) {
	t.Helper()
	for task, err := range s.Export(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		all = append(all, task)
	}
	return all
}
