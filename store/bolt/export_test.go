package bolt

import (
	"context"
	"os"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// WithWallClock replaces the wall clock. The monotonic clock stays the machine's.
func WithWallClock(now func() time.Time) Option {
	return func(o *options) { o.wallClock = now }
}

// WithOpenFile replaces how the database's file is opened, so that a test can get at
// its descriptor.
func WithOpenFile(open func(name string, flag int, perm os.FileMode) (*os.File, error)) Option {
	return func(o *options) { o.openFile = open }
}

// WithLogFS replaces the file system of the log.
func WithLogFS(fs wal.FS) Option {
	return func(o *options) { o.logFS = fs }
}

// WithOverlay sets the overlay's bounds, so that a few tasks are enough to see what
// a checkpoint does, and what waiting for one.
func WithOverlay(soft, hard int) Option {
	return func(o *options) { o.softEntries, o.hardEntries = soft, hard }
}

// Flush makes a checkpoint now, as the background would.
func (s *Store) Flush() error { return s.flush(context.Background()) }

// Lighten recycles the log without a checkpoint, as the background would.
func (s *Store) Lighten() error { return s.lighten(context.Background()) }

// Sync makes all settles durable, as the background would.
func (s *Store) Sync() error { return s.syncLog(context.Background()) }

// InMemory returns how many tasks the overlay holds.
func (s *Store) InMemory() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.overlay.entries)
}

// Lanes returns how many keys memory knows, and how many of them ask for their head.
func (s *Store) Lanes() (known, asking int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.overlay.lanes), len(s.overlay.lookups)
}

// Freeze calls f while no checkpoint runs, so that the files it sees are of one
// moment.
func (s *Store) Freeze(f func()) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	f()
}

// Closed reports whether Close was called, or the store has failed.
func (s *Store) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usable() != nil
}

// Unsynced reports whether something was settled that is not durable yet.
func (s *Store) Unsynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.inbox) > 0
}

// Stock is the store's usage: as the database has it recorded and recounted, as the
// quotas go by it, and as it should be.
type Stock struct{ Recorded, Recounted, Memory, Expected [4]int64 } // tasks and bytes that wait, that are dead

// Stock recounts everything.
func (s *Store) Stock() (Stock, error) {
	st, err := s.recountUsage()
	flat := func(u usage) [4]int64 {
		return [4]int64{u[homeTasks].tasks, u[homeTasks].bytes, u[homeDead].tasks, u[homeDead].bytes}
	}
	return Stock{flat(st.recorded), flat(st.recounted), flat(st.memory), flat(st.expected)}, err
}

// Used returns what the quotas go by.
func (s *Store) Used() (tasks, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.used()
	return u.tasks, u.bytes
}

// Waiters returns how many calls of Create wait for room in the quota.
func (s *Store) Waiters() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters)
}

// OpKinds is how many kinds of log records there are.
const OpKinds = int(opDamage)

// MidFlush reports whether a checkpoint has copied the task, but not written it.
func (s *Store) MidFlush(id outbox.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.overlay.entries[id]
	return e != nil && e.flushing
}

// Reindex compares the database's indexes with its tasks, as the background would.
func (s *Store) Reindex() error { return s.reindex() }
