package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// viewDatabase runs f in a read transaction. If compaction has put another file in
// the place of the one that it found, before the transaction began, it looks there.
func (s *Store) viewDatabase(f func(tx *bbolt.Tx) error) error {
	for {
		db := s.db.Load()
		tx, err := db.Begin(false)
		if err != nil {
			if s.db.Load() != db {
				continue
			}
			return err
		}
		defer tx.Rollback()
		return f(tx)
	}
}

// write runs f in a writable transaction of the database, and commits it if f
// returns nil. The file does not grow further than kind allows. After an error that
// is not final the database is as it was.
func (s *Store) write(kind growth, f func(tx *bbolt.Tx) error) (stats bbolt.TxStats, err error) {
	s.writers.Add(1)
	defer s.writers.Add(-1)
	relieving := kind != forApplication && s.relieving.Swap(false) // see lockWriting
	s.writing.Lock()
	defer s.writing.Unlock()
	db := s.db.Load()
	if s.owned {
		db.MaxSize = s.maxSize(kind)
	}
	tx, err := s.begin(db)
	if relieving {
		s.relieving.Store(true)
	}
	if err != nil {
		return stats, fmt.Errorf("bolt: begin: %w", err)
	}
	defer s.rollback(tx) // does nothing after a commit; ends it if f fails or panics
	if err := f(tx); err != nil {
		return stats, err
	}
	if err := s.sound(); err != nil { // what Create has written into tx may be half of it
		return stats, err
	}
	err = s.commit(tx)
	return tx.Stats(), err
}

// lockWriting waits, for the background, until nobody writes to the database. The
// application may do so for as long as it likes: whoever waits for room in memory is
// not to wait for that.
func (s *Store) lockWriting() {
	if s.writing.TryLock() {
		return
	}
	relieving := s.relieving.Swap(false)
	s.writing.Lock()
	s.relieving.Store(relieving)
}

// commit commits, and poisons the store if that leaves open what is on the disk
// (R11). writing is held.
func (s *Store) commit(tx *bbolt.Tx) (err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			err = s.poison(panicked(s.path, fmt.Sprintf("commit: %v", p)))
		}
	}(debug.SetPanicOnFault(true))
	id := tx.ID()
	switch err := tx.Commit(); {
	case err == nil:
		return nil
	case !isNoSpace(err):
		return s.poison(fmt.Errorf("commit to %s: %w", s.path, err))
	case s.reached(id):
		return s.poison(fmt.Errorf("commit to %s: no space when it was nearly done: %w", s.path, err))
	case errors.Is(err, bolterrors.ErrMaxSizeReached) && s.bounded():
		return fmt.Errorf("%w: %w", s.tooLarge(), err)
	default:
		return fmt.Errorf("%w: commit to %s: %w", outbox.ErrDiskFull, s.path, err)
	}
}

// isNoSpace reports whether a commit failed for want of room. bbolt gives the error
// of a file that can not grow as text only.
func isNoSpace(err error) bool {
	return wal.IsFull(err) || errors.Is(err, bolterrors.ErrMaxSizeReached) || strings.Contains(err.Error(), syscall.ENOSPC.Error())
}

// reached reports whether the database shows the transaction with this number,
// though its commit has failed. A file system that copies on write may have no room
// even for the meta page, which has its block, and then nobody knows what of it is
// on the disk (R9, R11). As long as the meta page is the one before, everything that
// was written lies in pages that nothing refers to.
func (s *Store) reached(id int) bool {
	shown := id
	err := s.view(func(tx *bbolt.Tx) error {
		shown = tx.ID()
		return nil
	})
	return err != nil || shown >= id
}
