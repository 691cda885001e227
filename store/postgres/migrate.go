package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/goutbox/goutbox/outbox"
)

//go:embed migrations/*.sql
var embedded embed.FS

// MigrationsFS holds the numbered files of the schema, for programs that apply them with a tool
// of their own, goose, golang-migrate or Flyway, and open the store with [WithSkipMigration].
// The files are for the default names; each may be applied twice.
var MigrationsFS fs.FS = func() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	return sub
}()

// schemaVersion is what this package needs.
const schemaVersion = 3

// migrate brings the schema up to schemaVersion. One instance does it, the others wait and
// find it done.
func (s *Store) migrate(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, s.lockNumber(lockMigrate, "")); err != nil {
		return err
	}
	have, err := s.version(ctx, tx)
	if err != nil {
		return err
	}
	files, err := fs.Glob(MigrationsFS, "*.up.sql")
	if err != nil {
		return err
	}
	for _, name := range files {
		number, err := strconv.Atoi(name[:strings.Index(name, "_")])
		if err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if number <= have {
			continue
		}
		text, err := fs.ReadFile(MigrationsFS, name)
		if err != nil {
			return err
		}
		// Without arguments a driver takes the whole file as it is.
		if _, err := tx.ExecContext(ctx, s.names.of(string(text))); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return tx.Commit()
}

// version reads which version the schema has; 0 is none.
func (s *Store) version(ctx context.Context, q querier) (v int, err error) {
	there := false
	table := s.names.of("goutbox_migrations")
	if err := q.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM `+table).Scan(&v)
	return v, err
}

// checkVersion refuses a schema that this package does not know.
func (s *Store) checkVersion(ctx context.Context) error {
	v, err := s.version(ctx, s.db)
	switch {
	case err != nil:
		return err
	case v == 0:
		return fmt.Errorf("schema %s has no tables of this store: apply MigrationsFS, or open without WithSkipMigration: %w", s.names.schema, outbox.ErrVersion)
	case v != schemaVersion:
		return fmt.Errorf("schema %s has version %d, this program knows %d: %w", s.names.schema, v, schemaVersion, outbox.ErrVersion)
	}
	return nil
}

// resolve finds out in which schema the tables are.
func (s *Store) resolve(ctx context.Context) error {
	if s.names.schema != "" {
		return nil
	}
	var schema sql.NullString
	if err := s.db.QueryRowContext(ctx, `SELECT current_schema()`).Scan(&schema); err != nil {
		return err
	}
	if schema.String == "" || strings.ContainsAny(schema.String, `'"\`) {
		return errors.New("the search_path has no schema, or one with quotes: set it, or use WithSchema")
	}
	s.names.schema = schema.String
	return nil
}
