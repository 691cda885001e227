package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// Store is a durable [outbox.Store] in one folder: a write-ahead log in front of
// a bbolt database. It is safe for concurrent use by multiple goroutines.
type Store struct {
	dir   string
	opts  options
	db    atomic.Pointer[bbolt.DB] // replaced by compaction, with writing held
	path  string                   // of db
	owned bool                     // the store opened db and closes it
	lock  *folderLock
	log   *wal.Log
	clock clock

	recovered recovered // by Open

	// claiming is held throughout Claim, so that one refill runs at a time, flushing
	// throughout a checkpoint and whatever else changes which files the log has. Lock
	// order: claiming, flushing, writing, a bbolt transaction, mu, the log's own.
	claiming sync.Mutex
	gathered gathered // of the claim that holds claiming
	flushing sync.Mutex
	seeking  sync.Mutex // held while Create looks for victims, so that one look serves all; a read transaction, mu and the log's own come under it, claiming, flushing and writing never

	// writing is held throughout every writable transaction that the store begins, so
	// that nobody commits while the file is looked after: see write and reserve.go.
	writing  sync.Mutex
	writers  atomic.Int32 // who holds writing or waits for it
	file     *os.File     // of an owned database: what bbolt writes to
	reserved int64        // up to here the file has its blocks (R38)
	needed   int64        // what the database lacked when it was last found full; guarded by flushing
	behind   bool         // the database may be of an earlier format version; guarded by flushing
	largest  atomic.Int64 // bytes of the largest task that was moved to the database

	// mu guards everything below it down to unheard. Nothing that waits for a disk is
	// done while holding it, but for lines of the log.
	mu          sync.Mutex
	overlay     overlay
	ids         *ids
	inbox       []change               // records queued in the log that are not durable yet, in its order
	applied     wal.Position           // the last record that has changed the overlay
	checkpoint  wal.Position           // the last record that the database knows
	base        ledger                 // as of checkpoint, with every transaction committed since
	since       ledger                 // what the records after checkpoint did, up to applied
	coming      ledger                 // what settled but not yet durable records will do, for Stats
	gaps        gaps                   // what the records up to applied say of gaps,
	gapsAhead   gaps                   // and with all that are queued
	gapsAt      wal.Position           // of the database's state when it was opened: the record up to which it knows of gaps
	use         usage                  // what waits and what is dead, all that was queued in the log included
	unsure      usage                  // of it, new tasks that are not durable yet
	granted     amount                 // room in the quota given to waiters that have not used it yet,
	txUse       amount                 // and to transactions whose end is not known
	waiters     []*waiter              // for room, first come first served
	unswept     bool                   // a rolled back transaction may hold room
	excess      [3]bool                // the keeper is to bring a home down to its quota
	drops       [3]dropped             // for quota and durable, but not logged yet, by home
	retrying    int                    // settled retries that are not durable yet,
	retryDue    int64                  // and when the first of them is due
	generation  uint64                 // changes with every commit to the database, so that readers see that one came between
	groups      map[outbox.ID]*txGroup // of transactions whose end is not known
	lastToken   uint64
	turns       uint64        // tasks claimed since the store was opened: see outbox.Turn
	tasksRead   int64         // tasks that refills have read
	noted       int64         // the latest time, store clock, that is on the disk; see noteTime
	room        chan struct{} // closed and replaced whenever a checkpoint has made room
	live        bool          // recovery is over
	placesRead  int           // places of the due bucket that refills have looked at
	unlisted    bool          // which queues the database has is not known: see findQueues
	disordered  bool          // the database's indexes do not agree with its tasks
	spoilt      bool          // a damaged task waits in memory for room for its record: see quarantine
	closing     bool
	failed      error                          // set once: ErrPoisoned or ErrClosed, and why
	noRoom      error                          // why nothing is accepted for now: ErrDiskFull or ErrFull (P9)
	listeners   map[*func(names []string)]bool // and whether they are called without a name too
	watchers    []*outbox.Watch
	unheard     outbox.Dropped // what they have not heard of,
	unheardDead outbox.Buried  // and of what the store has buried

	logged       atomic.Int64  // bytes queued in the log since the last trim, or look for one,
	unprepared   atomic.Int64  // and since it was last seen to that there is a next segment
	relieving    atomic.Bool   // room is being made, and nobody else's transaction is in the way
	jammed       atomic.Bool   // bbolt has panicked and kept its writer lock
	checkpoints  atomic.Uint64 // commits of checkpoints
	checkpointed atomic.Int64  // when the last was, wall clock
	written      atomic.Uint64 // bytes written to the database

	freed freed // of the flusher: when it last gave space back

	background sync.WaitGroup
	stop       chan struct{} // closed by Close; ends the background goroutines
	wakeSync   chan struct{} // capacity 1: a settle wants to become durable
	wakeFlush  chan struct{} // capacity 1: there is work for the flusher: room, a checkpoint, reindex, sweep
	wakeQuota  chan struct{} // capacity 1: the keeper of quotas has something to do

	wakeWatch chan struct{} // capacity 1: something was dropped or buried
	synced    chan synced   // what watchers are told of syncs; full, the next is left out
	watchSync atomic.Bool   // somebody wants to know

	wakeCompact chan struct{} // capacity 1: the database may have become smaller than its file
}

// change is a record's effect on one entry, waiting for the record to become
// durable.
type change struct {
	pos      wal.Position
	kind     opKind
	e        *entry // nil only in recovery: nothing is left of it
	replaced *entry // create: the waiting task whose LatestOnly key it takes over,
	outdated *entry // or the one in flight
	op       *op    // not of a create at run time
	died     *op    // create at run time: with which it is a dead letter from the beginning; or nil
}

// usable returns why the store cannot be used, or nil. mu is held.
func (s *Store) usable() error {
	if s.failed != nil {
		return s.failed
	}
	if s.closing {
		return s.closedError()
	}
	return nil
}

func (s *Store) closedError() error { return fmt.Errorf("%w: store %s", outbox.ErrClosed, s.dir) }

// poison ends all work after an error that leaves open what is on the disk (P10,
// R9, R11). It returns the error that every call gets from now on.
func (s *Store) poison(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: store %s: %w", outbox.ErrPoisoned, s.dir, cause)
		s.opts.logger.Error("outbox: store failed and must be reopened", "store", s.dir, "error", cause)
		s.madeRoomLocked()
	}
	return s.failed
}

// madeRoomLocked wakes everybody who waits for the overlay to shrink. mu is held.
func (s *Store) madeRoomLocked() {
	close(s.room)
	s.room = make(chan struct{})
	if s.usable() != nil {
		s.dismissLocked()
	}
}

// translate turns an error of the log into the outbox's words. An error of the
// disk poisons the store, so mu must not be held.
func (s *Store) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrPoisoned):
		return s.poison(err)
	case errors.Is(err, wal.ErrClosed):
		return s.closedError()
	}
	for _, p := range [...]struct{ from, to error }{
		{wal.ErrUnknown, outbox.ErrOutcomeUnknown},
		{wal.ErrNoSpace, outbox.ErrDiskFull},
		{wal.ErrTooLarge, outbox.ErrTooLarge},
		{wal.ErrCorrupt, outbox.ErrCorrupt},
		{wal.ErrMismatch, outbox.ErrMismatch},
		{wal.ErrVersion, outbox.ErrVersion},
	} {
		if errors.Is(err, p.from) {
			return fmt.Errorf("%w: %w", p.to, err)
		}
	}
	return err
}

// syncLog makes durable what is queued in the log: synced, or at the other levels of
// WithSync written, which is when its records are applied; see secureLog. Records that found no room are no
// concern of the caller: whoever queued them was told, and they were taken back.
func (s *Store) syncLog(ctx context.Context) error {
	if err := s.log.Flush(ctx); err != nil && !errors.Is(err, wal.ErrNoSpace) {
		return err
	}
	return nil
}

// wake makes a background goroutine look, without ever blocking.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var (
	_ outbox.Store        = (*Store)(nil)
	_ outbox.NameNotifier = (*Store)(nil)
	_ outbox.Watcher      = (*Store)(nil)
	_ outbox.Exporter     = (*Store)(nil)
	_ outbox.Importer     = (*Store)(nil)
)
