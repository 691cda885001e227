package bolt

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// How space goes back to the file system (P8, R36).
//
// bbolt never makes its file smaller. When most of it is free pages, what lives is
// copied to outbox.db.tmp, which is then synced, opened, and renamed over outbox.db,
// while the store works:
//
//	copy     in a read transaction, given up as soon as somebody wants to write
//	check    with the writer lock: nothing was committed since the copy began
//	replace  rename, sync the folder, and from then on everybody uses the new file
//	release  the old file, once its last reader is gone; freeing it piece by piece
//	         was tried, and made no difference to the longest wait for a sync
//
// Accepting, claiming and settling need the log and read transactions, so nothing of
// this stops them. If somebody writes again and again, the copy of little data is made
// with the writer lock, which holds up checkpoints and Update; much data waits for a
// quieter time. A crash leaves the old file or the new one under the name, both of the
// same state, and perhaps a .tmp, which Open removes (R3).
const (
	compactFloor  = 4 << 20              // bytes of a file that is small enough
	compactLocked = 16 << 20             // live bytes that may be copied with the writer lock held
	compactChunk  = 1 << 20              // bytes of a transaction of the copy
	readersPause  = 5 * time.Millisecond // between looks for readers of the old file
	compactPause  = time.Second          // from when it is due,
	compactRest   = 5 * time.Minute      // and most after it could not be done
)

// errMoved says that the database changed while it was copied.
var errMoved = errors.New("bolt: compact: the database is in use")

// compactor shrinks the database's file when most of it is free. Started by Open, ended
// by Close through stop, which waits for it; woken by the flusher after whatever may
// have moved tasks.
func (s *Store) compactor() {
	if !s.owned || s.opts.closedOnly {
		return
	}
	pause := s.opts.compactPause
	for {
		select {
		case <-s.stop:
			return
		case <-s.wakeCompact:
		}
		if !s.wasteful() {
			continue
		}
		select { // lets what is going on end, and does not copy without end
		case <-s.stop:
			return
		case <-time.After(pause):
		}
		err := s.compact()
		switch {
		case err == nil:
			pause = s.opts.compactPause
			continue
		case errors.Is(err, outbox.ErrPoisoned), errors.Is(err, outbox.ErrClosed):
			return
		case !errors.Is(err, errMoved) && !isNoSpace(err):
			s.opts.logger.Warn("outbox: database not compacted, will try again", "store", s.dir, "error", err)
		}
		pause = min(2*pause, compactRest)
		wake(s.wakeCompact)
	}
}

// wasteful reports whether the file is large and not half of it is live. That costs no
// look at what is in it.
func (s *Store) wasteful() bool {
	high, free, err := s.space()
	if err != nil {
		return false
	}
	size := fileSize(s.path)
	if s.opts.closedOnly {
		size = high // bbolt makes the file as large as its map
	}
	live := high - free
	return size > s.opts.compactFloor && live < size/2 && size-live > 2*s.reserveWanted()
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// compact copies the database and puts the copy in its place. errMoved says that it
// was in use and is as it was.
func (s *Store) compact() error {
	if !s.wasteful() {
		return nil
	}
	high, free, err := s.space()
	if err != nil {
		return err
	}
	c, err := s.copyAside()
	if err == nil {
		err = s.replace(c)
	}
	if errors.Is(err, errMoved) && high-free <= compactLocked && !s.stopping() {
		err = s.replace(nil)
	}
	return err
}

// copyAside copies the database while others may use it.
func (s *Store) copyAside() (c *duplicate, err error) {
	err = s.view(func(tx *bbolt.Tx) (err error) {
		c, err = s.copyDatabase(tx, func() bool { return s.writers.Load() > 0 || s.stopping() })
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, s.finish(c)
}

// stopping reports whether the store is about to close, or has failed.
func (s *Store) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing || s.failed != nil
}

// replace puts a copy in the place of the database; without a copy it makes one first,
// with the writer lock held. Before the rename every failure leaves the database as it
// was; after it none may.
func (s *Store) replace(c *duplicate) error {
	s.writing.Lock()
	old, err := s.exchange(c)
	s.writing.Unlock()
	if old == nil {
		return err
	}
	// bbolt's Close waits for the last reader, and holds up the others meanwhile.
	for old.Stats().OpenTxN > 0 && !s.stopping() {
		time.Sleep(readersPause)
	}
	err = errors.Join(err, old.Close())
	s.step("closed")
	return err
}

// exchange is replace up to the moment from which on nobody begins to use the old
// database, which it returns. writing is held.
func (s *Store) exchange(c *duplicate) (*bbolt.DB, error) {
	old := s.db.Load()
	if err := s.sound(); err != nil { // whoever wrote a moment ago may have failed (R11), or left bbolt locked
		c.discard()
		return nil, err
	}
	tx, err := s.begin(old)
	if err != nil {
		c.discard()
		return nil, fmt.Errorf("bolt: compact: %w", err)
	}
	defer s.rollback(tx) // whoever got hold of the old database on other ways waits until here
	if c == nil {
		if c, err = s.copyDatabase(tx, s.stopping); err == nil {
			err = s.finish(c)
		}
	} else if c.of != tx.ID()-1 || s.stopping() {
		err = errMoved
	}
	if err != nil {
		c.discard()
		return nil, err
	}
	s.step("renaming")
	if err := os.Rename(c.path, s.path); err != nil {
		c.discard()
		return nil, fmt.Errorf("bolt: compact: %w", err)
	}
	s.step("renamed")
	s.opts.logger.Info("outbox: database compacted", "store", s.dir, "bytes", fileSize(s.path), "before", c.before)
	s.db.Store(c.db)
	s.file, s.reserved = c.file, c.reserved
	if err := syncDir(s.dir); err != nil { // which of the two files a power cut leaves is not known
		err = s.poison(fmt.Errorf("compact: sync %s: %w", s.dir, err))
		return old, err
	}
	s.step("replaced")
	return old, nil
}

// step is where a test may look at the files, or end the process.
func (s *Store) step(name string) {
	if s.opts.compactStep != nil {
		s.opts.compactStep(name)
	}
}

// compactClosed is compact for systems that can not replace an open file: Open does it,
// before anybody uses the database, and only if little is to be copied. A failure
// leaves the database as it was.
func (s *Store) compactClosed() error {
	if high, free, err := s.space(); err != nil || !s.wasteful() || high-free > compactLocked {
		return err
	}
	c, err := s.copyAside()
	if err == nil {
		err = errors.Join(s.db.Load().Close(), c.db.Close())
		if err == nil {
			err = os.Rename(c.path, s.path)
		}
		if err == nil {
			err = syncDir(s.dir)
		}
		db, file, oerr := s.opts.openDatabase(s.path)
		if oerr != nil {
			return errors.Join(err, oerr)
		}
		s.db.Store(db)
		s.file, s.reserved = file, 0
	}
	if err != nil {
		s.opts.logger.Warn("outbox: database not compacted", "store", s.dir, "error", err)
	}
	return nil
}
