package postgres_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// marks is how many keys the next sweep has to look at.
func marks(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT count(*) FROM "+table+"_marks").Scan(&n))
	return n
}

// A settle chooses the next head of the key itself, and leaves nothing to a sweep.
func TestHeads_SettleChoosesTheNext(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		var tasks []outbox.Task
		for _, name := range []string{"1", "2", "3", "4"} {
			tasks = append(tasks, event(name, key("k")))
		}
		require.NoError(t, s.Create(t.Context(), tasks))
		got := claim(t, s, 9, aWhile)
		require.Equal(t, "1", names(got))
		require.Zero(t, marks(t, db, table), "a head is in flight: nothing is left to do")
		for _, one := range []struct {
			verdict outbox.Verdict
			next    string
		}{{outbox.Done, "2"}, {outbox.Release, "2"}, {outbox.Retry, "2"}, {outbox.Bury, "3"}, {outbox.Done, "4"}} {
			require.NoError(t, settle(t, s, one.verdict, got...))
			require.Zero(t, marks(t, db, table))
			got = claim(t, s, 9, aWhile)
			require.Equal(t, one.next, names(got))
		}
		require.NoError(t, settle(t, s, outbox.Done, got...))
		require.Zero(t, marks(t, db, table))
	})
}

// A settle has looked for a successor and is not committed; one comes, and a sweep finds its mark and the
// head in flight. The mark must stay, or nobody would look again (P4).
func TestHeads_SettleIsAtWork(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("1", key("k"))}))
		got := claim(t, s, 9, aWhile)
		tx, _ := begin(t, db, sql.LevelDefault)
		_, err := tx.Exec("DELETE FROM "+table+"_tasks WHERE id = $1", uuid(got[0].ID))
		require.NoError(t, err)
		_, err = tx.Exec("INSERT INTO " + table + "_ledger (accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead) VALUES (0, 1, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0)")
		require.NoError(t, err)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("2", key("k"))}))
		found, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 9, Lease: aWhile})
		require.NoError(t, err)
		require.Empty(t, found.Tasks)
		require.Less(t, found.NextIn, time.Second, "somebody has it in hand for a moment only")
		require.NoError(t, tx.Commit())
		require.Equal(t, "2", names(claim(t, s, 9, aWhile)))
	})
}
