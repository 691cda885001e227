package server

import (
	"context"
	"database/sql"
)

// The table of an application that has its data in the same database.
const (
	makeRows = `CREATE TABLE IF NOT EXISTS app_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea NOT NULL)`

	// AddRow writes a row of the application's.
	AddRow = `INSERT INTO app_rows (data) VALUES ($1)`

	// CountRows counts them.
	CountRows = `SELECT count(*) FROM app_rows`
)

// MakeRows makes the table.
func MakeRows(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, makeRows)
	return err
}

// Count runs a query that counts.
func Count(ctx context.Context, db *sql.DB, query string) (n uint64, err error) {
	err = db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// Written is how many bytes the server's write-ahead log has had so far, of all its databases.
func Written(ctx context.Context, db *sql.DB) (uint64, error) {
	return Count(ctx, db, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`)
}
