package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

const microsecond = time.Microsecond

// Store is an [outbox.Store], [outbox.Notifier] and [outbox.Watcher] in a PostgreSQL database. It is safe
// for concurrent use, by as many instances as there are. Make one with [New].
type Store struct {
	options
	db    *sql.DB
	names names
	owner int64  // the number of this instance
	begin string // begins a transaction

	closed   atomic.Bool
	turnLock sync.Mutex
	turns    uint64 // tasks claimed so far: see outbox.Turn

	queue queue // of events that are accepted together
	room  room  // for calls of Create

	mu          sync.Mutex // guards what follows; never held while anybody waits
	listeners   map[*func()]struct{}
	watchers    map[*outbox.Watch]struct{}
	stopLooking context.CancelFunc
	looking     sync.WaitGroup
}

var (
	_ outbox.Store    = (*Store)(nil)
	_ outbox.Notifier = (*Store)(nil)
	_ outbox.Watcher  = (*Store)(nil)
)

// openTime bounds New and Close, which have no context.
const openTime = time.Minute

// New returns a store in a database, which any driver of database/sql has opened, and sees to its schema: see
// [WithSkipMigration]. The database stays the caller's, to close after the store. A store uses
// one connection for each call at work.
//
// Every call of New makes a new instance.
func New(db *sql.DB, opts ...Option) (*Store, error) {
	s := &Store{
		options: options{retryInterval: defaultRetryInterval, lease: outbox.MaxLease, table: defaultTable},
		db:      db, begin: beginText(idleTime), listeners: map[*func()]struct{}{}, watchers: map[*outbox.Watch]struct{}{},
	}
	s.queue.init()
	for _, set := range opts {
		if set != nil {
			set(&s.options)
		}
	}
	if db == nil {
		return nil, fmt.Errorf("postgres: open: no database: %w", outbox.ErrInvalid)
	}
	if s.table == "" {
		s.table = defaultTable
	}
	if err := checkName("table", s.table); err != nil {
		return nil, err
	}
	if s.schema != "" {
		if err := checkName("schema", s.schema); err != nil {
			return nil, err
		}
	}
	s.names.table, s.names.schema = s.table, s.schema
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	if err := s.open(ctx); err != nil {
		return nil, translate("open", err)
	}
	return s, nil
}

// open prepares the database.
func (s *Store) open(ctx context.Context) error {
	for tried := 0; ; tried++ {
		err := s.openOnce(ctx)
		if err == nil || tried+1 == maxTries || !conflict(err) && !broken(err) || !pause(ctx, tried) {
			return err
		}
	}
}

func (s *Store) openOnce(ctx context.Context) error {
	if err := s.resolve(ctx); err != nil {
		return err
	}
	if !s.skipMigration {
		if err := s.migrate(ctx); err != nil {
			return err
		}
	}
	if err := s.checkVersion(ctx); err != nil {
		return err
	}
	return s.db.QueryRowContext(ctx, s.names.of(`SELECT nextval('goutbox_tokens')`)).Scan(&s.owner)
}

// Close gives back what this instance has in flight or holds back, due as before: a restart
// begins at once. Calls after it return [outbox.ErrClosed]; a second Close does nothing. If the
// database can not be reached, leases run out by themselves.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed.Load() {
		s.mu.Unlock()
		return nil
	}
	s.listeners, s.watchers = map[*func()]struct{}{}, map[*outbox.Watch]struct{}{}
	stop := s.stopLooking
	s.stopLooking = nil
	s.closed.Store(true)
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	s.looking.Wait()
	slots := s.queue.close()
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	return s.giveBack(ctx, slots)
}

const (
	mineSQL = `WITH mine AS MATERIALIZED (
		(SELECT id FROM goutbox_tasks WHERE state = 1 AND owner = $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
	)
	UPDATE goutbox_tasks t SET state = 0, lease_end = NULL, token = 0, owner = NULL FROM mine
	WHERE t.id = mine.id RETURNING t.id::text, t.priority, t.key, t.replaced`
	heldBackSQL = `WITH mine AS MATERIALIZED (
		SELECT id FROM goutbox_tasks WHERE held IS NOT NULL AND owner = $1 LIMIT $2 FOR UPDATE SKIP LOCKED
	)
	UPDATE goutbox_tasks t SET due_at = t.held, held = NULL, owner = NULL FROM mine WHERE t.id = mine.id`
)

// giveBack ends the claims of this instance, some at a time, and gives up its rows of the ledger.
func (s *Store) giveBack(ctx context.Context, slots []*slot) error {
	for more := true; more; {
		err := s.run(ctx, "close", func(ctx context.Context, w *work) error {
			if err := w.giveUp(ctx, slots); err != nil {
				return err
			}
			n, err := w.waitAgain(ctx, mineSQL, s.owner, sweepAtOnce)
			if err != nil {
				return err
			}
			r, err := w.ExecContext(ctx, s.names.of(heldBackSQL), s.owner, sweepAtOnce)
			if err != nil {
				return err
			}
			held, err := r.RowsAffected()
			more = n == sweepAtOnce || held == sweepAtOnce
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
