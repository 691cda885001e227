package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Many instances that start at once on an empty database make one schema.
func TestOpen_Together(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := openDB(t, driver)
		table := newTable(t, db)
		var all sync.WaitGroup
		var opened atomic.Int64
		for range 8 {
			all.Go(func() {
				s, err := postgres.New(db, postgres.WithTable(table))
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				opened.Add(1)
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 8, opened.Load())
	})
}

// A schema that another tool has made, twice, is as good; one that is missing or of another version is
// refused.
func TestOpen_SkipMigration(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := openDB(t, driver)
		schema := freshTable()
		_, err := db.Exec("CREATE SCHEMA " + schema)
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := db.Exec("DROP SCHEMA " + schema + " CASCADE")
			require.NoError(t, err)
		})
		opts := []postgres.Option{postgres.WithSchema(schema), postgres.WithSkipMigration()}
		_, err = postgres.New(db, opts...)
		require.ErrorIs(t, err, outbox.ErrVersion)
		require.ErrorContains(t, err, "MigrationsFS")
		files, err := fs.Glob(postgres.MigrationsFS, "*.sql")
		require.NoError(t, err)
		require.NotEmpty(t, files)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		for range 2 {
			for _, name := range files {
				text, err := fs.ReadFile(postgres.MigrationsFS, name)
				require.NoError(t, err)
				_, err = conn.ExecContext(t.Context(), "SET search_path = "+schema+"; "+string(text)+"; RESET search_path")
				require.NoError(t, err)
			}
		}
		require.NoError(t, conn.Close())
		s, err := postgres.New(db, opts...)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, err = db.Exec("INSERT INTO " + schema + ".goutbox_migrations (version) VALUES (99)")
		require.NoError(t, err)
		_, err = postgres.New(db, postgres.WithSchema(schema))
		require.ErrorIs(t, err, outbox.ErrVersion)
	})
}

func TestOpen_Names(t *testing.T) {
	db := openDB(t, "pgx")
	for _, bad := range []string{`a"b`, "a b", "1a", "a;b", "an_identifier_that_is_far_too_long_for_this", "ключ"} {
		for _, opt := range []postgres.Option{postgres.WithTable(bad), postgres.WithSchema(bad)} {
			_, err := postgres.New(db, opt)
			require.ErrorIs(t, err, outbox.ErrInvalid, bad)
		}
	}
	_, err := postgres.New(nil)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	s, err := postgres.New(db, postgres.WithTable("Select")) // quoted, so a keyword will do
	require.NoError(t, err)
	require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a", key("k"))}))
	require.Len(t, claim(t, s, 1, aWhile), 1)
	require.NoError(t, s.Audit(t.Context()))
	require.NoError(t, s.Close())
	for _, what := range []string{"VIEW %q", "FUNCTION %q"} {
		name := map[string]string{"VIEW %q": "Select_listing", "FUNCTION %q": "Select_next"}[what]
		_, err := db.Exec(fmt.Sprintf("DROP "+what, name))
		require.NoError(t, err)
	}
	_, err = db.Exec(`DROP TABLE "Select_tasks", "Select_ledger", "Select_marks", "Select_spent", "Select_gaps", "Select_migrations";
		DROP SEQUENCE "Select_tokens", "Select_ids"`)
	require.NoError(t, err)
}

// An event that another instance, or a transaction, has accepted is found by looking.
func TestNotify_Looks(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver, postgres.WithRetryInterval(5*time.Millisecond))
		other := open(t, db, table)
		heard := make(chan struct{}, 1)
		stop := s.Notify(func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		defer stop()
		require.NoError(t, other.Create(t.Context(), []outbox.Task{event("a")}))
		<-heard
		require.NoError(t, settle(t, s, outbox.Done, claim(t, s, 1, aWhile)...))
		require.NoError(t, other.Close())
	})
}

// listener is that of the README.
type listener struct{ dsn string }

func (l listener) Listen(ctx context.Context, channel string, heard func()) error {
	conn, err := pgx.Connect(ctx, l.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	for heard(); ; heard() {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// With a listener it is found long before the next look; those who have none say nothing.
func TestNotify_Listener(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		hour := []postgres.Option{postgres.WithRetryInterval(time.Hour), postgres.WithListener(listener{dsn(t)})}
		s, db, table := newStore(t, driver, hour...)
		other := open(t, db, table, hour...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		started, delivered := make(chan struct{}, 2), make(chan string, 1)
		stop := s.Notify(func() {
			select {
			case started <- struct{}{}:
			default:
			}
		})
		<-started // it listens
		done := make(chan error, 1)
		go func() {
			done <- outbox.New(s, quiet, outbox.WithLoopInterval(time.Hour)).Start(ctx, func(_ context.Context, e outbox.Event) error {
				delivered <- e.Name
				return nil
			})
		}()
		require.NoError(t, other.Create(t.Context(), []outbox.Task{event("a")}))
		require.Equal(t, "a", <-delivered)
		stop()
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, other.Close())
	})
}

// A context that ends while the server is away is in the error, also when it ends between two
// attempts to reach it.
func TestContext_EndsWhileTheServerIsAway(t *testing.T) {
	dsn(t) // a server can be had
	srv, err := newServer()
	require.NoError(t, err)
	t.Cleanup(srv.remove)
	for _, driver := range drivers {
		db, err := sql.Open(driver, srv.dsn())
		require.NoError(t, err)
		s, err := postgres.New(db)
		require.NoError(t, err)
		srv.kill()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err = s.Create(ctx, []outbox.Task{{Event: outbox.Event{Name: "n", Key: "k"}}})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, outbox.ErrOutcomeUnknown)
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = s.Stats(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, srv.start())
		require.NoError(t, s.Close())
		require.NoError(t, db.Close())
	}
}
