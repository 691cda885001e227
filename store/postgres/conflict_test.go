package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"database/sql"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
)

// openWith opens the database with a setting of the session.
func openWith(t *testing.T, name, value string) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(dsn(t)) // a URL, or not
	require.NoError(t, err)
	config.RuntimeParams[name] = value
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// crowd creates and delivers with several goroutines on each store, and checks what came of it.
func crowd(t *testing.T, stores ...*postgres.Store) {
	t.Helper()
	const each, workers = 60, 4
	r := newReceiver()
	var all sync.WaitGroup
	for _, s := range stores {
		for n := range workers {
			all.Go(func() {
				for i := range each {
					tasks := []outbox.Task{event("a", key(fmt.Sprint(i%5))), event("b", func(t *outbox.Task) { t.LatestOnly = fmt.Sprint("l", n) }), event("c")}
					if err := s.Create(t.Context(), tasks); err != nil {
						t.Errorf("create: %v", err)
						return
					}
				}
			})
		}
		all.Go(func() {
			deadline := time.Now().Add(3 * soon)
			for time.Now().Before(deadline) {
				st, err := s.Stats(t.Context())
				if err != nil {
					t.Errorf("stats: %v", err)
					return
				}
				if st.Accepted == uint64(len(stores)*workers*each*3) && st.Pending+st.InFlight == 0 {
					return
				}
				got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 7, Lease: aWhile})
				if err != nil {
					t.Errorf("claim: %v", err)
					return
				}
				var outcomes []outbox.Outcome
				for _, task := range got.Tasks {
					_ = r.publish(t.Context(), task.Event) // it never fails
					outcomes = append(outcomes, outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Done})
				}
				if err := s.Settle(t.Context(), outcomes); err != nil {
					t.Errorf("settle: %v", err)
					return
				}
			}
			t.Errorf("not done in time")
		})
	}
	all.Wait()
	require.Empty(t, r.wrong)
	require.EqualValues(t, len(r.times), r.total.Load(), "some were delivered twice")
	require.NoError(t, stores[0].Audit(t.Context()))
}

// A server whose default is SERIALIZABLE refuses some transactions; they are tried again.
func TestConflict_Serializable(t *testing.T) {
	db := openWith(t, "default_transaction_isolation", "serializable")
	table := newTable(t, db)
	a, b := open(t, db, table), open(t, db, table)
	crowd(t, a, b)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// A pool of two connections is enough for any number of goroutines: no call waits for one
// while it has one.
func TestConflict_FullPool(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		db.SetMaxOpenConns(2)
		crowd(t, s)
	})
}

// When a settle and somebody's own transaction wait for each other, PostgreSQL ends the settle,
// and it is tried again.
func TestConflict_Deadlock(t *testing.T) {
	db := openWith(t, "deadlock_timeout", "2s") // looked for once, so not before there is one
	patient := openWith(t, "deadlock_timeout", "60s")
	table := newTable(t, db)
	s := open(t, db, table)
	tasks := []outbox.Task{event("a"), event("b")}
	require.NoError(t, s.Create(t.Context(), tasks))
	got := claim(t, s, 2, aWhile)
	require.Len(t, got, 2)
	tx, err := patient.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback() // at the end of a test that has failed
	lock := func(i int) {
		_, err := tx.Exec("SELECT FROM "+table+"_tasks WHERE id = $1 FOR UPDATE", fmt.Sprintf("%x", got[i].ID[:]))
		require.NoError(t, err)
	}
	lock(1)
	done := make(chan error, 1)
	go func() { done <- settle(t, s, outbox.Done, got...) }()
	require.Eventually(t, func() bool {
		waits := false
		require.NoError(t, patient.QueryRowContext(context.Background(),
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%'||$1||'%' AND pid <> pg_backend_pid())`, table).Scan(&waits))
		return waits
	}, soon, tick)
	lock(0) // returns when the settle was ended
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	st, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, st.Delivered)
	require.NoError(t, s.Close())
}
