package peer

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver
)

// settings of SQLite, which the queues on it share.
const settings = "SQLite without cgo (journal_mode WAL, synchronous FULL, busy_timeout 5 s, one connection as it advises)"

// openSQLite opens a database with a table of the application's. Unsynced is for
// storing what is not measured.
func openSQLite(dir string, unsynced bool) (*sql.DB, error) {
	level := "FULL"
	if unsynced {
		level = "OFF"
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "queue.db")+
		"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate&_pragma=synchronous("+level+")")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS app_rows (id INTEGER PRIMARY KEY, data BLOB NOT NULL)"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// inTx runs f in a transaction that has a row of the application's.
func inTx(ctx context.Context, db *sql.DB, row []byte, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if row != nil {
		if _, err := tx.ExecContext(ctx, "INSERT INTO app_rows (data) VALUES (?)", row); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// count runs a query that counts.
func count(ctx context.Context, db *sql.DB, query string) (n uint64, err error) {
	err = db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

func countRows(ctx context.Context, db *sql.DB) (uint64, error) {
	return count(ctx, db, "SELECT count(*) FROM app_rows")
}

// each calls f with the only column of a query.
func each(ctx context.Context, db *sql.DB, query string, f func([]byte) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return rows.Err()
}
