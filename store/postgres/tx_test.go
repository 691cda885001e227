package postgres_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

func begin(t *testing.T, db *sql.DB, level sql.IsolationLevel) (*sql.Tx, context.Context) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() }) // nothing after a commit
	return tx, postgres.WithTx(t.Context(), tx)
}

// A refused event leaves the application's transaction usable, and a rollback leaves nothing.
func TestTx_RefusedAndRolledBack(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		unique := func(task *outbox.Task) { task.Unique = "u" }
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("holds", unique)}))
		tx, ctx := begin(t, db, sql.LevelDefault)
		require.ErrorIs(t, s.Create(ctx, []outbox.Task{event("x"), event("x", unique)}), outbox.ErrDuplicate)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("a", key("k"))}))
		require.NoError(t, tx.Commit())
		tx, ctx = begin(t, db, sql.LevelDefault)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("gone", key("k"))}))
		require.NoError(t, tx.Rollback())
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, st.Accepted)
		require.Len(t, claim(t, s, 10, aWhile), 2)
		require.ErrorIs(t, s.Create(outbox.WithTx(t.Context(), "of nobody's"), []outbox.Task{event("x")}), outbox.ErrTxUnsupported)
	})
}

// A transaction that is open for long, at any isolation level, holds up nobody who delivers; what it
// accepts comes after the commit, in the order of the commits (P4).
func TestTx_OpenForLong(t *testing.T) {
	for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		t.Run(level.String(), func(t *testing.T) {
			each(t, func(t *testing.T, driver string) {
				s, db, _ := newStore(t, driver)
				latest := func(task *outbox.Task) { task.LatestOnly = "l" }
				require.NoError(t, s.Create(t.Context(), []outbox.Task{event("1", key("k")), event("old", latest), event("older", latest)}))
				tx, ctx := begin(t, db, level)
				_, err := tx.Exec("SELECT 1")
				require.NoError(t, err)
				require.NoError(t, s.Create(ctx, []outbox.Task{event("2", key("k")), event("new", latest)}))
				got := claim(t, s, 10, aWhile)
				require.Equal(t, "1 older", names(got), "an open transaction replaces nothing yet")
				require.NoError(t, settle(t, s, outbox.Done, got[0]))
				require.Empty(t, claim(t, s, 10, aWhile))
				require.NoError(t, tx.Commit())
				got = append(got, claim(t, s, 10, aWhile)...)
				require.Equal(t, "1 older 2 new", names(got))
				require.NoError(t, settle(t, s, outbox.Release, got[1]))
				require.Empty(t, claim(t, s, 10, aWhile), "it has been replaced")
				st, err := s.Stats(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 2, st.DroppedBy.Coalesced)
			})
		})
	}
}

// Whoever accepts an event of the same key waits for the transaction, and gets a higher ID.
func TestTx_KeyOrderIsCommitOrder(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		tx, ctx := begin(t, db, sql.LevelDefault)
		first, second := []outbox.Task{event("first", key("k"))}, []outbox.Task{event("second", key("k"))}
		require.NoError(t, s.Create(ctx, first))
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("other", key("kk"))}), "other keys wait for nothing")
		done := make(chan error, 1)
		go func() { done <- s.Create(context.WithoutCancel(t.Context()), second) }()
		waiting := false
		require.Eventually(t, func() bool {
			require.NoError(t, db.QueryRow(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`).Scan(&waiting))
			return waiting
		}, soon, tick)
		select {
		case err := <-done:
			t.Fatalf("the second was accepted before the first: %v", err)
		default:
		}
		require.NoError(t, tx.Commit())
		require.NoError(t, <-done)
		require.Negative(t, first[0].ID.Compare(second[0].ID))
	})
}

// A program with one connection gets along, and does not wait for itself.
func TestTx_OneConnection(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		db.SetMaxOpenConns(1)
		tx, ctx := begin(t, db, sql.LevelDefault)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("a", key("k"))}))
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Create(short, []outbox.Task{event("b")}), context.DeadlineExceeded, "the pool is full")
		require.NoError(t, tx.Commit())
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("b")}))
		require.Len(t, claim(t, s, 10, aWhile), 2)
	})
}

func names(tasks []outbox.Task) (all string) {
	for i, task := range tasks {
		if i > 0 {
			all += " "
		}
		all += task.Name
	}
	return all
}

// A transaction that sees the store as it was accepts behind what has come since.
func TestTx_OldSnapshot(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		for _, level := range []sql.IsolationLevel{sql.LevelRepeatableRead, sql.LevelSerializable} {
			tx, ctx := begin(t, db, level)
			_, err := tx.Exec("SELECT 1")
			require.NoError(t, err)
			require.NoError(t, s.Create(t.Context(), []outbox.Task{event("1", key("k"))}))
			require.NoError(t, s.Create(ctx, []outbox.Task{event("2", key("k"))}))
			require.NoError(t, tx.Commit())
			for _, name := range []string{"1", "2"} {
				got := claim(t, s, 9, aWhile)
				require.Equal(t, name, names(got))
				require.NoError(t, settle(t, s, outbox.Done, got...))
			}
		}
	})
}

// A transaction is refused an event with an ID that is below that of the one which holds its
// LatestOnly key, and replaces those below only.
func TestTx_LatestOnlyByID(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		latest := func(id byte) func(*outbox.Task) {
			return func(task *outbox.Task) { task.LatestOnly, task.ID = "l", outbox.ID{15: id} }
		}
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("5", latest(5))}))
		tx, ctx := begin(t, db, sql.LevelDefault)
		require.ErrorIs(t, s.Create(ctx, []outbox.Task{event("4", latest(4))}), outbox.ErrDuplicate)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("7", latest(7))}))
		require.ErrorIs(t, s.Create(ctx, []outbox.Task{event("6", latest(6))}), outbox.ErrDuplicate)
		require.NoError(t, tx.Commit())
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("8", latest(8))})) // before a sweep has replaced anything
		got := claim(t, s, 10, aWhile)
		require.Len(t, got, 1)
		require.Equal(t, "8", got[0].Name)
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, st.DroppedBy.Coalesced)
		require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{event("x", latest(9)), event("x", latest(8))}), outbox.ErrDuplicate)
	})
}

// What a transaction is told is what is there once it has committed; nothing is claimed in it, and what it is
// refused leaves it usable.
func TestTx_UsualEvents(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		tx, ctx := begin(t, db, sql.LevelSerializable)
		require.Error(t, s.Create(ctx, []outbox.Task{event("x"), event("x", func(task *outbox.Task) { task.MaxAttempts = 1 << 40 })}))
		tasks := []outbox.Task{
			event("a", func(task *outbox.Task) { task.Lease, task.Priority = aWhile, outbox.Low }),
			event("b", func(task *outbox.Task) { task.Delay, task.TTL = time.Hour, 2*time.Hour }),
		}
		require.NoError(t, s.Create(ctx, tasks))
		require.Empty(t, list(t, s))
		require.NoError(t, tx.Commit())
		isThere(t, s, tasks...)
		require.Equal(t, outbox.Waiting, tasks[0].State)
		require.Equal(t, "a", names(claim(t, s, 9, aWhile)))
	})
}
