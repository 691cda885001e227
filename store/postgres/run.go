package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// querier is a transaction, of the store's own or of the application.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// work is one transaction as its steps see it.
type work struct {
	querier
	s       *Store
	foreign bool   // of the application: no locks on tasks, no end
	ledger  ledger // what it changes
	xid     string // of the transaction, once it has written the ledger
	lazy    bool   // its commit need not be waited for on disk (P3)
	proof   string // an ID that is there if it was committed; "" = there is none,
	token   int64  // and the token of it; 0 = any
	dropped outbox.Dropped
	buried  outbox.Buried

	marks  map[string]bool // keys whose head may have to be chosen
	untold map[outbox.Reason]outbox.Untold
}

// patience bounds a transaction of the store's own, and the time in which it is found out
// whether a lost one was committed.
const patience = time.Minute

// run runs f in a transaction of the store's own, again if that failed for a reason that
// may pass and nothing was committed. f must be good for several times.
func (s *Store) run(ctx context.Context, what string, f func(ctx context.Context, w *work) error) error {
	return s.runFrom(ctx, s.begin, what, f)
}

// runFrom is run with a beginning of its own.
func (s *Store) runFrom(ctx context.Context, begin, what string, f func(ctx context.Context, w *work) error) error {
	for tried := 0; ; tried++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("postgres: %s: nothing done: %w", what, err)
		}
		w := &work{s: s}
		lost, err := s.try(ctx, w, begin, f)
		known := true
		if lost { // and its connection is given back: there may be no other
			known, err = s.outcome(ctx, w, err)
		}
		switch {
		case err == nil:
			s.tell(w.dropped, w.buried)
			return nil
		case !known:
			return fmt.Errorf("postgres: %s: %w: %w", what, outbox.ErrOutcomeUnknown, err)
		case tried+1 < maxTries && (conflict(err) || broken(err)) && !ours(err) && pause(ctx, tried):
			continue
		case ctx.Err() != nil && !errors.Is(err, ctx.Err()): // also in the pause
			return fmt.Errorf("postgres: %s: nothing done: %w: %w", what, ctx.Err(), err)
		case ours(err):
			return fmt.Errorf("postgres: %s: %w", what, err)
		}
		return translate(what, err)
	}
}

// ours reports whether an error is one that a step has made, not the database.
func ours(err error) bool {
	for _, kind := range []error{
		outbox.ErrDuplicate, outbox.ErrFull, outbox.ErrTooLarge, outbox.ErrInvalid, outbox.ErrCorrupt,
		outbox.ErrNotFound, outbox.ErrInFlight, outbox.ErrLeaseLost, outbox.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// try is one try. lost says that the connection died in the commit.
//
// The caller's context interrupts the steps, never the commit: what was sent can not be
// taken back, and its outcome would be unknown for no reason.
func (s *Store) try(ctx context.Context, w *work, begin string, f func(ctx context.Context, w *work) error) (lost bool, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		rollback(conn)
		return false, err
	}
	w.querier = conn
	if err = f(ctx, w); err == nil {
		err = w.finish(ctx)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		rollback(conn)
		return false, err
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if _, err = conn.ExecContext(whole, "COMMIT"); err == nil {
		return false, nil
	}
	rollback(conn)
	// An error with a code is the server's: it has rolled back.
	return state(err) == "" || broken(err), err
}

// idleTime is how long the server waits for a client that says nothing within a transaction of the
// store's own: one that was frozen, or cut off, must not keep from the others what it has locked.
const idleTime = 20 * time.Second

// beginText begins a transaction, in one message. The planner is told to use indexes, of which each
// statement has one: it knows little of a table that fills and drains within a minute, and reads
// one from end to end where a few hundred rows are wanted by their IDs. What it cannot do otherwise, it
// still does; without compiling, which costs such plans dear.
func beginText(idle time.Duration) string {
	return fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = %d; "+
		"SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off", idle.Milliseconds())
}

// plannedOnce, behind the beginning, has a connection plan a statement once, not each time for its parameters.
const plannedOnce = "; SET LOCAL plan_cache_mode = force_generic_plan"

// rollback ends a transaction that has failed. A connection on which that fails is thrown away.
func rollback(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		discard(conn)
	}
}

// discard throws a connection away, and gives its place back.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // which is what Raw returns
	_ = conn.Close()                                           // it is closed
}

// outcome finds out what became of a commit whose connection died: PostgreSQL knows the
// fate of each transaction by its number. Only, a server that has crashed may give the
// number of a transaction of which nothing had reached the disk to another one. So what
// was to be durable counts as committed only if a task is there as it left it (P1).
func (s *Store) outcome(ctx context.Context, w *work, lost error) (known bool, err error) {
	if w.xid == "" {
		return true, lost // it has changed nothing that counts
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	const ask = `SELECT coalesce(pg_xact_status($1::xid8), ''), EXISTS (
		SELECT FROM goutbox_tasks WHERE id = nullif($2, '')::uuid AND ($3::bigint = 0 OR token = $3))`
	for tried := 0; ; tried++ {
		var fate string
		var there bool
		err := s.db.QueryRowContext(ctx, s.names.of(ask), w.xid, w.proof, w.token).Scan(&fate, &there)
		switch {
		case err == nil && fate == "aborted": // though another import may have brought the task
			return true, lost
		case err == nil && (there || fate == "committed" && w.lazy):
			return true, nil
		case err == nil && fate != "in progress":
			return false, lost
		case state(err) == "22023": // a number that was not given out: the crash has forgotten it
			return true, lost
		}
		if !pause(ctx, tried) {
			return false, lost
		}
	}
}

// usable reports why the store can not be used, or the caller's context.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return outbox.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("postgres: nothing done: %w", err)
	}
	return nil
}

// rows runs f for each row of a query.
func (w *work) rows(ctx context.Context, text string, args []any, f func(scan func(...any) error) error) error {
	rows, err := w.QueryContext(ctx, w.s.names.of(text), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row reads the one row of a query.
func (w *work) row(ctx context.Context, text string, args []any, into ...any) error {
	return w.QueryRowContext(ctx, w.s.names.of(text), args...).Scan(into...)
}

// exec runs a statement.
func (w *work) exec(ctx context.Context, text string, args ...any) error {
	_, err := w.ExecContext(ctx, w.s.names.of(text), args...)
	return err
}

// read runs queries that change nothing, outside of any transaction, again if the connection died.
func (s *Store) read(ctx context.Context, what string, f func(ctx context.Context, w *work) error) error {
	for tried := 0; ; tried++ {
		if err := s.usable(ctx); err != nil {
			return err
		}
		err := f(ctx, &work{s: s, querier: s.db})
		switch {
		case err == nil:
			return nil
		case tried+1 < maxTries && (conflict(err) || broken(err)) && pause(ctx, tried):
			continue
		case ctx.Err() != nil: // also in the pause
			return fmt.Errorf("postgres: %s: %w", what, ctx.Err())
		}
		return translate(what, err)
	}
}
