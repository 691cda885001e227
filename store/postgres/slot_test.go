package postgres_test

import (
	"context"
	"sync"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

const (
	ledgerColumns = "accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead"

	// foldAsBefore is what the version before does with rows of the ledger: all are its own.
	foldAsBefore = `WITH gone AS (DELETE FROM %[1]s_ledger RETURNING *) INSERT INTO %[1]s_ledger (` + ledgerColumns + `)
		SELECT sum(accepted), sum(delivered), sum(requeued), sum(expired), sum(coalesced), sum(quota), sum(deleted), sum(high),
		sum(normal), sum(low), sum(in_flight), sum(dead) FROM gone`
	addAsBefore = `UPDATE %[1]s_ledger SET accepted = accepted + 1, deleted = deleted + 1`
)

// An instance that others rob of its row of the ledger makes a new one; what they add to it stays (P5).
func TestSlot_OlderVersions(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		for range 3 {
			for _, text := range []string{addAsBefore, foldAsBefore} {
				require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
				_, err := db.Exec(named(text, table))
				require.NoError(t, err)
			}
		}
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
		rows := 0
		require.NoError(t, db.QueryRow(named("SELECT count(*) FROM %[1]s_ledger WHERE call IS NOT NULL", table)).Scan(&rows))
		require.Equal(t, 1, rows)
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 7, st.Pending)
		require.EqualValues(t, st.DroppedBy.Deleted+7, st.Accepted)
	})
}

// Rows of instances that were killed become few some time; until then no claim takes one from its owner.
func TestSlot_LeftBehind(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		count := func() (rows int) {
			require.NoError(t, db.QueryRow("SELECT count(*) FROM "+table+"_ledger").Scan(&rows))
			return rows
		}
		leave := func(n int) {
			_, err := db.Exec(named(`INSERT INTO %[1]s_ledger (`+ledgerColumns+`, call) SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n FROM generate_series(1, $1::int) n`, table), n)
			require.NoError(t, err)
		}
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
		leave(100)
		_, err := db.Exec(named(`INSERT INTO %[1]s_ledger (`+ledgerColumns+`) SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 100)`, table))
		require.NoError(t, err)
		require.Len(t, claim(t, s, 9, aWhile), 1)
		require.Greater(t, count(), 100, "they may be at work")
		require.Less(t, count(), 110, "these nobody has")
		leave(500)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
		require.Len(t, claim(t, s, 9, aWhile), 1)
		require.Less(t, count(), 10)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a")}))
		require.Len(t, claim(t, s, 9, aWhile), 1)
	})
}

// IDs of one instance rise from call to call, whichever way they take.
func TestSlot_IDsRise(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, _, _ := newStore(t, driver)
		var mu sync.Mutex
		var highest outbox.ID // of the calls that have returned
		kinds := [][]outbox.Task{{event("a")}, {event("a"), event("a")}, {event("a", key("k"))}, {event("a", func(task *outbox.Task) { task.Attempts = 1 })}}
		var all sync.WaitGroup
		for n := range 6 {
			all.Go(func() {
				for i := range 20 {
					tasks := append([]outbox.Task(nil), kinds[(n+i)%len(kinds)]...)
					mu.Lock()
					last := highest
					mu.Unlock()
					require.NoError(t, s.Create(context.WithoutCancel(t.Context()), tasks))
					for _, task := range tasks {
						require.Positive(t, task.ID.Compare(last), "%s is not above %s", task.ID, last)
						last = task.ID
					}
					mu.Lock()
					if last.Compare(highest) > 0 {
						highest = last
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
	})
}
