package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// uuid is how the database shows an ID.
func uuid(id outbox.ID) string { return fmt.Sprintf("%x", id[:]) }

// waits returns when somebody waits for a lock in a statement that has the text in it.
func waits(t *testing.T, db *sql.DB, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		found := false
		require.NoError(t, db.QueryRowContext(context.WithoutCancel(t.Context()),
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%'||$1||'%' AND pid <> pg_backend_pid())`, text).Scan(&found))
		return found
	}, soon, tick)
}

// The one that is to be the next head is deleted at that moment: neither the settle nor the sweep waits for that,
// the key is looked at again, and the next of it is found.
func TestRace_ChosenIsDeleted(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		tasks := []outbox.Task{event("1", key("k")), event("2", key("k")), event("3", key("k"))}
		require.NoError(t, s.Create(t.Context(), tasks))
		got := claim(t, s, 9, aWhile)
		require.Equal(t, "1", names(got))
		tx, _ := begin(t, db, sql.LevelDefault)
		_, err := tx.Exec("DELETE FROM "+table+"_tasks WHERE id = $1", uuid(tasks[1].ID))
		require.NoError(t, err)
		_, err = tx.Exec("INSERT INTO " + table + "_ledger (accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead) VALUES (0, 0, 0, 0, 0, 0, 1, 0, -1, 0, 0, 0)")
		require.NoError(t, err)
		require.NoError(t, settle(t, s, outbox.Done, got...)) // waits for nothing either
		found, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 9, Lease: aWhile})
		require.NoError(t, err)
		require.Empty(t, found.Tasks)
		require.Less(t, found.NextIn, time.Second, "others have it in hand for a moment only")
		require.NoError(t, tx.Commit())
		require.Equal(t, "3", names(claim(t, s, 9, aWhile)))
	})
}

// A head that somebody looks at while an older one is requeued gives way as soon as it can.
func TestRace_HeadIsLocked(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("old", key("k"))}))
		old := claim(t, s, 1, aWhile)
		require.NoError(t, settle(t, s, outbox.Bury, old...))
		young := []outbox.Task{event("young", key("k"))}
		require.NoError(t, s.Create(t.Context(), young))
		tx, _ := begin(t, db, sql.LevelDefault)
		_, err := tx.Exec("SELECT FROM "+table+"_tasks WHERE id = $1 FOR UPDATE", uuid(young[0].ID))
		require.NoError(t, err)
		_, err = s.Requeue(t.Context(), old[0].ID)
		require.NoError(t, err)
		got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 9, Lease: aWhile})
		require.NoError(t, err)
		require.Empty(t, got.Tasks)
		require.Less(t, got.NextIn, time.Second, "others have it in hand for a moment only")
		require.NoError(t, tx.Rollback())
		require.Equal(t, "old", names(claim(t, s, 9, aWhile)))
	})
}

// A batch of more keys than there is room for locks takes one for all, and waits like any other.
func TestRace_VeryManyKeys(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		tx, ctx := begin(t, db, sql.LevelDefault)
		first := []outbox.Task{event("first", key("key 7"))}
		require.NoError(t, s.Create(ctx, first))
		many := make([]outbox.Task, 1000)
		for i := range many {
			many[i] = event("many", key(fmt.Sprint("key ", i)))
		}
		done := make(chan error, 1)
		go func() { done <- s.Create(context.WithoutCancel(t.Context()), many) }()
		waits(t, db, "pg_advisory_xact_lock")
		require.NoError(t, tx.Commit())
		require.NoError(t, <-done)
		require.Negative(t, first[0].ID.Compare(many[7].ID))
		require.Len(t, claim(t, s, 2000, aWhile), 1000, "one of each key")
	})
}

// Transactions of the application each leave a row in the ledger; a claim makes few of them.
func TestRace_LedgerStaysSmall(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		for range 100 {
			tx, ctx := begin(t, db, sql.LevelSerializable)
			require.NoError(t, s.Create(ctx, []outbox.Task{event("a")}))
			require.NoError(t, tx.Commit())
		}
		require.Len(t, claim(t, s, 200, aWhile), 100)
		rows := 0
		require.NoError(t, db.QueryRow("SELECT count(*) FROM "+table+"_ledger").Scan(&rows))
		require.Less(t, rows, 10)
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 100, st.Accepted)
	})
}
