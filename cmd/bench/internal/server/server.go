// Package server is a PostgreSQL server on which stores and peers are measured. Each
// measurement has a schema of its own there, as others have a folder.
package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// mostConns bounds the connections of one contender.
const mostConns = 64

// Server is one that answers. Make one with Connect.
type Server struct {
	About  string // version, and the settings that decide what a commit costs
	Unsafe string // why what it has committed may not survive a power cut; "" = it does
	Conns  int    // that one contender may have

	config *pgx.ConnConfig
	db     *sql.DB
	run    string // tells the schemas of this run from those of another

	mu   sync.Mutex // guards made
	made []string   // schemas that are there
}

// Connect finds the server and asks it for its settings.
func Connect(ctx context.Context, dsn string) (*Server, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	s := &Server{config: config, db: stdlib.OpenDB(*config), run: fmt.Sprintf("%08x", rand.Uint32())}
	if err := s.describe(ctx); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// described are the settings that About names.
var described = []string{
	"fsync", "synchronous_commit", "full_page_writes", "wal_level", "wal_sync_method", "wal_compression", "wal_buffers",
	"wal_writer_delay", "commit_delay", "max_wal_size", "shared_buffers", "max_connections",
}

func (s *Server) describe(ctx context.Context) error {
	var version string
	var most int
	err := s.db.QueryRowContext(ctx, `SELECT current_setting('server_version'), current_setting('max_connections')::int`).Scan(&version, &most)
	if err != nil {
		return err
	}
	s.About, s.Conns = "PostgreSQL "+version, max(min(mostConns, most/2), 1)
	for _, name := range described {
		var value string
		if err := s.db.QueryRowContext(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
			return err
		}
		s.About += ", " + name + " " + value
		if value == "off" && (name == "fsync" || name == "synchronous_commit") {
			s.Unsafe = name + " is off"
		}
	}
	return nil
}

// schema is the one of a measurement, by its folder.
func (s *Server) schema(dir string) string {
	base := filepath.Base(dir)
	return "goutbox_bench_" + s.run + "_" + base[strings.LastIndexByte(base, '-')+1:]
}

// Schema makes the schema of a measurement, unless it is there, and returns how to connect to it: it is all
// that is in the search_path.
func (s *Server) Schema(dir string) (*pgx.ConnConfig, error) {
	name := s.schema(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.made, name) {
		if _, err := s.db.Exec("CREATE SCHEMA " + name); err != nil {
			return nil, err
		}
		s.made = append(s.made, name)
	}
	c := s.config.Copy()
	c.RuntimeParams["search_path"] = name
	return c, nil
}

// Open opens the schema of a measurement, which has a table of the application's.
func (s *Server) Open(dir string) (*sql.DB, error) {
	config, err := s.Schema(dir)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(s.Conns)
	db.SetMaxIdleConns(s.Conns)
	if err := MakeRows(context.Background(), db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// dropTime bounds the dropping of a schema, which waits for whoever is still at work in it.
const dropTime = 20 * time.Second

// Drop drops the schema of a measurement with all that is in it.
func (s *Server) Drop(dir string) error { return s.drop(s.schema(dir)) }

func (s *Server) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTime)
	defer cancel()
	if _, err := s.db.ExecContext(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
		return fmt.Errorf("schema %s is left on the server: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = slices.DeleteFunc(s.made, func(one string) bool { return one == name })
	return nil
}

// Close drops what is left of schemas, and disconnects.
func (s *Server) Close() (err error) {
	s.mu.Lock()
	left := slices.Clone(s.made)
	s.mu.Unlock()
	for _, name := range left {
		err = errors.Join(err, s.drop(name))
	}
	return errors.Join(err, s.db.Close())
}
