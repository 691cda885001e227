package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
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

// WithCompaction has files be compacted that are larger than floor, so long after it is
// due, and calls step between the steps.
func WithCompaction(floor int64, pause time.Duration, step func(name string)) Option {
	return func(o *options) { o.compactFloor, o.compactPause, o.compactStep = floor, pause, step }
}

// WithCompactionAtOpen has files be compacted as on windows.
func WithCompactionAtOpen() Option {
	return func(o *options) { o.closedOnly = true }
}

// Compact compacts now, as the background would.
func (s *Store) Compact() error { return s.compact() }

// Flush makes a checkpoint now, as the background would.
func (s *Store) Flush() error { return s.flush(context.Background()) }

// Lighten recycles the log without a checkpoint, as the background would.
func (s *Store) Lighten() error { return s.lighten(context.Background()) }

// Advance has the database take over a log position, as the background would where
// neither it nor the log has room.
func (s *Store) Advance() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.advanceDatabase(context.Background())
}

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

// Writing reports whether somebody writes to the database, or waits for that.
func (s *Store) Writing() bool { return s.writers.Load() > 0 }

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
const OpKinds = int(opGaps) + 2 // opPark and opSpend

// MidFlush reports whether a checkpoint has copied the task, but not written it.
func (s *Store) MidFlush(id outbox.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.overlay.entries[id]
	return e != nil && e.flushing
}

// Reindex compares the database's indexes with its tasks, as the background would.
func (s *Store) Reindex() error { return s.reindex() }

// Room describes what is left in log and database.
func (s *Store) Room() string {
	high, free, _ := s.space()
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := "-"
	if o := s.overlay.oldest; o != nil {
		oldest = fmt.Sprintf("%d (home %d gone %v state %v)", o.dirtyAt, o.home, o.gone, o.state)
	}
	return fmt.Sprintf("database high %d free %d reserved %d wanted %d largest %d; log %+v first %d next %d; %d entries, %d dirty, oldest %s, applied %d freed %+v, inbox %d, no room: %v",
		high, free, s.reserved, s.reserveWanted(), s.largest.Load(), s.log.Stats(), s.log.First(), s.log.Next(), len(s.overlay.entries), s.overlay.dirty, oldest, s.applied, s.freed, len(s.inbox), s.noRoom)
}

// Spares returns how many segments lie ready in the log.
func (s *Store) Spares() int { return s.log.Stats().Spares }

// Prepare makes room ahead of need, as the background would.
func (s *Store) Prepare() error { return s.prepare() }

// Reserve returns how many bytes the database can still write without more blocks, and
// how many it is to keep.
func (s *Store) Reserve() (room, wanted int64) {
	high, free, _ := s.space()
	return free + max(0, s.reserved-high), s.reserveWanted()
}

// LogFirst is the first record that the log still has.
func (s *Store) LogFirst() uint64 { return uint64(s.log.First()) }

// WithStage has Salvage call f between its steps.
func WithStage(f func(stage string) error) Option {
	return func(o *options) { o.stage = f }
}

// SpentUntil returns until when a Unique key is taken after a delivery, on the store's
// clock; 0 if it is not.
func (s *Store) SpentUntil(unique string) (until int64, err error) {
	asked := &entry{header: header{unique: unique}}
	err = s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err == nil {
			s.loadHolders(b, []*entry{asked})
		}
		return err
	}, func() error {
		until = asked.taken
		if e := s.overlay.unique[unique]; e != nil {
			until = max(until, e.spent)
		}
		return nil
	})
	return until, err
}

// InBucket returns how many pairs a bucket of the database has.
func (s *Store) InBucket(name string) (n int, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketRoot).Bucket([]byte(name)); b != nil {
			return b.ForEach(func(_, _ []byte) error {
				n++
				return nil
			})
		}
		return nil
	})
	return n, err
}

// ForgetSpent takes Unique keys whose time is over out of the database, as the background
// would.
func (s *Store) ForgetSpent() error { return s.forgetSpent() }

// Reads returns how many tasks claims have read from the database.
func (s *Store) Reads() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasksRead
}

// Parks returns of how many keys memory knows that they are parked.
func (s *Store) Parks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.overlay.parks)
}

// Untold returns how many events were dropped and not told of, by reason.
func (s *Store) Untold() (n [2]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.gapsAhead {
		n[i] = s.gapsAhead[i].untold.Count
	}
	return n
}

// Gaps is all that is known of gaps.
func (s *Store) Gaps() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%+v", s.gapsAhead)
}

// Tend does once what the flusher does when it is woken.
func (s *Store) Tend() error { return errors.Join(s.recycle(), s.prepare(), s.relieve()) }
