package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

var tables atomic.Int64

// freshTable is a name that no other test has, nor another run on the same server.
func freshTable() string { return fmt.Sprintf("t%d_%d", os.Getpid(), tables.Add(1)) }

// openDB opens the database of this run.
func openDB(t testing.TB, driver string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// newTable chooses a name and sees that its tables go at the end.
func newTable(t testing.TB, db *sql.DB) string {
	t.Helper()
	table := freshTable()
	t.Cleanup(func() { dropTables(t, db, table) })
	return table
}

func dropTables(t testing.TB, db *sql.DB, table string) {
	t.Helper()
	for _, what := range []string{"VIEW %s_listing", "FUNCTION %s_next", "TABLE %[1]s_tasks, %[1]s_ledger, %[1]s_marks, %[1]s_spent, %[1]s_gaps, %[1]s_migrations", "SEQUENCE %[1]s_tokens, %[1]s_ids"} {
		_, err := db.Exec(fmt.Sprintf("DROP "+what, table))
		require.NoError(t, err)
	}
}

// open makes a store of its own, without an end: the caller closes it.
func open(t testing.TB, db *sql.DB, table string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.New(db, append([]postgres.Option{postgres.WithTable(table)}, opts...)...)
	require.NoError(t, err)
	return s
}

// newStore makes a store of its own that the test's end closes and audits.
func newStore(t testing.TB, driver string, opts ...postgres.Option) (*postgres.Store, *sql.DB, string) {
	t.Helper()
	db := openDB(t, driver)
	table := newTable(t, db)
	s := open(t, db, table, opts...)
	t.Cleanup(func() {
		require.NoError(t, s.Audit(context.Background()))
		require.NoError(t, s.Close())
	})
	return s, db, table
}

func event(name string, with ...func(*outbox.Task)) outbox.Task {
	t := outbox.Task{Event: outbox.Event{Name: name, ContentType: "text/plain", Payload: []byte(name)}, MaxAttempts: 3}
	for _, f := range with {
		f(&t)
	}
	return t
}

func key(k string) func(*outbox.Task) { return func(t *outbox.Task) { t.Key = k } }

// named puts the name of a table into a text.
func named(text, table string) string { return strings.ReplaceAll(text, "%[1]s", table) }
