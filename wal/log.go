package wal

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Position is the number of a record in the log. The first record is 1; 0 is before everything. Each record gets the
// position after the one before it. Records that failed with ErrNoSpace leave a gap: a position is never given out
// twice by an open log, so nobody who waits for a record is told the fate of another.
type Position uint64

// Record is one record of the log.
type Record struct {
	Position Position
	Data     []byte // valid until the next step of the iteration
}

// Log is an open write-ahead log. It is safe for concurrent use by multiple goroutines, and has no goroutine of its
// own. One process, and in it one Log, may have a folder open at a time: the owner of the folder holds the lock (R7).
type Log struct {
	dir  string
	fs   FS
	opts Options

	recovery  Recovery
	closeOnce sync.Once
	closeErr  error

	durable atomic.Uint64 // Position; written by the leader, under mu
	onDisk  atomic.Uint64 // Position; written by the leader

	// dirMu lets one at a time make spares (Prepare, or a leader that finds none) or take segments away (Trim). It is
	// locked before mu, never while mu is held.
	dirMu     sync.Mutex
	nextSpare uint64 // number in the name of the next spare

	// mu guards everything below but is not held during I/O or callbacks.
	mu       sync.Mutex
	err      error // ErrPoisoned and its cause, for ever
	closing  bool  // Close has begun: nothing more is queued
	closed   bool
	next     Position // position of the next record
	open     *round   // collects what is queued; never nil
	writing  *round   // what the leader writes now, or nil
	leading  bool     // somebody leads, or has been handed the lead
	failing  bool     // OnFailed is about to be called or at work: nothing is queued
	failed   []failure
	idle     buffers
	expected int32     // callers to gather before the next write, see gather
	full     bool      // the last attempt to make a spare found no space
	prepared bool      // the owner calls Prepare, so a reserve is wanted
	segments []segment // what is in the folder, oldest first; the last one is never freed
	spares   []string  // file names of segments ready for use, all of opts.SegmentBytes
	small    smallSpare
	rest     int64   // what the newest segment that Open found has left, until it has a successor or is gone on with
	stats    Stats   // the counters; Stats fills in the rest
	active   *active // the segment being written, nil before the first write

	// The leader's own: read and written only by who leads.
	written Position // everything up to it is in the files,
	synced  Position // and up to here on the disk: the same, unless the log is lazy
	chain   uint32   // CRC of the group that ends at written
	tail    tail     // groups of the last run that are to be written again, see roll
}

// failure is a run of records that were queued and are not in the log, or may not be.
type failure struct {
	from, to Position
	err      error
}

// Durable returns the position of the newest record that is on the disk, 0 if there is none. Of a lazy log it is the
// newest that is written, so it may be ahead of Synced.
func (l *Log) Durable() Position { return Position(l.durable.Load()) }

// Synced returns the position up to which everything is on the disk beyond doubt: what a sync that this log has seen
// succeed has covered. After Open that leaves out the last records of the run before, which Durable counts: their sync
// may have failed, and then they can be read and are not on the disk (R10). Sync, or the first commit, writes them again.
// Let nothing that has to outlive a power cut refer to a record behind Synced.
func (l *Log) Synced() Position { return Position(l.onDisk.Load()) }

// First returns the position from which on the log still has its records: Next, if it has none.
func (l *Log) First() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 {
		return l.next
	}
	return l.segments[0].base
}

// Next returns the position that the next queued record will get.
func (l *Log) Next() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Close refuses new records, makes durable what was queued before, releases the waiters and closes the files. It
// returns the error that kept it from doing so. Closing again is harmless and returns the same.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()

	err := l.flush()

	l.dirMu.Lock() // lets Trim and Prepare finish
	defer l.dirMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.active == nil {
		return err
	}
	if cerr := l.active.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// flush is Sync for Close: it sees to it that nothing is queued and nobody leads.
func (l *Log) flush() error {
	for {
		l.mu.Lock()
		r := l.writing
		if r == nil {
			r = l.open
		}
		if !l.leading && len(r.groups) == 0 {
			if l.err != nil || l.written == l.synced {
				defer l.mu.Unlock()
				return l.err
			}
			r.sync = true
		}
		if err := l.waitUnlock(context.Background(), r, r.last); err != nil {
			return err
		}
	}
}

// path is the path of a file of the log.
func (l *Log) path(name string) string { return filepath.Join(l.dir, name) }

// usableLocked returns why the folder may not be changed any more, or nil.
func (l *Log) usableLocked() error {
	switch {
	case l.err != nil:
		return l.err
	case l.closed:
		return ErrClosed
	}
	return nil
}

// poisonLocked makes err final (R9): what failed once is not tried again, as a second sync may report success for
// pages that the first has dropped.
func (l *Log) poisonLocked(err error) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
}

// poison is poisonLocked for errors met by other than the leader. It returns the final error.
func (l *Log) poison(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.poisonLocked(err)
	if !l.leading { // else the leader will see it
		l.leading = true
		l.settleLocked(&round{}, nil)
		l.leading = false
	}
	return l.err
}
