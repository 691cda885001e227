package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// How a full disk drains through the database (P9, R38, R39).
//
// bbolt writes a changed page in a new place, so even a delete needs free pages, and
// it grows its file by a size without blocks, so a commit meets the full disk in the
// middle. Therefore the file is given its blocks before a commit that may need them,
// and a reserve behind them:
//
//	0 ......... high-water mark ......... reserved
//	  live and free pages       |  blocks without content
//
// A checkpoint that adds to the database leaves the reserve alone: where it can not
// be had in full, the disk counts as full, nothing more is accepted, and tasks move to
// the database only as far as free pages allow without touching what the reserve is
// for. A checkpoint that removes may use all of it, and turns it into free pages.
//
// A file of ballast, to be deleted when a commit finds no room, was refused: what it
// frees may go to another process before bbolt has it.

// growth says how far a transaction may make the file grow.
type growth int

const (
	toAdd          growth = iota // leaves the reserve alone
	toRemove                     // may use the reserve
	forApplication               // leaves it alone when the disk is full; else as far as the disk has room
)

// reserveWanted is how many bytes the reserve shall have. To take one of two large
// values out of a page, bbolt writes the other one again, and may join it with its
// neighbours: hence four times the largest.
func (s *Store) reserveWanted() int64 {
	return max(s.opts.reserveBytes, 4*s.largest.Load())
}

// maxSize is what bbolt has to be told, so that a transaction of this kind takes no
// page behind the limit: it counts one page and one step of growth on top. writing is
// held.
func (s *Store) maxSize(kind growth) int {
	limit, reserve := int64(-1), s.reserveWanted()
	switch {
	case kind == toRemove && s.reserved > 0:
		limit = s.reserved
		if high, _, err := s.space(); err == nil && high > limit { // the application has made the file larger
			limit = high + reserve
		}
	case s.reserved > 0 && (kind == toAdd || s.refusal() != nil):
		limit = s.reserved - reserve
	case s.opts.maxDatabase > 0:
		limit = s.opts.maxDatabase
		if kind != toRemove {
			limit -= reserve
		}
	default:
		return 0 // no limit
	}
	return int(max(limit, 0)) + growBytes + os.Getpagesize()
}

// bounded reports whether a transaction that found no more pages was stopped by
// WithMaxDatabaseBytes and not by the disk.
func (s *Store) bounded() bool {
	why := s.refusal()
	return s.opts.maxDatabase > 0 && (why == nil || errors.Is(why, outbox.ErrFull))
}

func (s *Store) tooLarge() error {
	return fmt.Errorf("%w: %s may have %d bytes and they are in use: have events delivered or delete some, or allow more with WithMaxDatabaseBytes",
		outbox.ErrFull, s.path, s.opts.maxDatabase)
}

// space returns the database's high-water mark, and how many bytes below it are free.
func (s *Store) space() (high, free int64, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		high = tx.Size()
		st := tx.DB().Stats()
		free = int64(st.FreePageN+st.PendingPageN) * int64(tx.DB().Info().PageSize)
		return nil
	})
	return high, free, err
}

// extend sees to it that the file has blocks for so many bytes behind its high-water
// mark, and a reserve behind them. It takes a reserve more, so that it is not called
// for at each commit. Where it can not, twice as much in free pages does as well.
func (s *Store) extend(bytes int64) error {
	if !s.owned || !reserves {
		return nil
	}
	s.lockWriting()
	defer s.writing.Unlock()
	high, free, err := s.space()
	if err != nil {
		return err
	}
	reserve := s.reserveWanted()
	want := high + bytes + reserve
	inside := s.reserved > 0 && free > 2*bytes+reserve
	if s.reserved >= want {
		return nil
	}
	if most := s.opts.maxDatabase; most > 0 && want > most && inside {
		return nil
	}
	if most := s.opts.maxDatabase; most > 0 && want > most {
		return s.tooLarge()
	}
	for _, end := range [...]int64{want + s.opts.reserveBytes, want} {
		if most := s.opts.maxDatabase; most > 0 {
			end = min(end, most)
		}
		if err = allocateBlocks(s.file, high, end); err == nil {
			s.reserved = end
			return nil
		}
		if !wal.IsFull(err) {
			return s.poison(fmt.Errorf("extend %s: %w", s.path, err))
		}
	}
	if inside {
		return nil
	}
	return fmt.Errorf("%w: extend %s by %d bytes: %w", outbox.ErrDiskFull, s.path, want-high, err)
}

// openReserve finds out what reserve the file has: the blocks that an earlier life has
// given it are still there.
func (s *Store) openReserve() error {
	if !s.owned || !reserves {
		return nil
	}
	high, _, err := s.space()
	if err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("bolt: open: %w", err)
	}
	if size := info.Size(); size > high && reservesFree {
		switch err := allocateBlocks(s.file, high, size); {
		case err == nil:
			s.reserved = size
		case !wal.IsFull(err):
			return fmt.Errorf("bolt: open: extend %s: %w", s.path, err)
		}
	}
	if err := s.extend(0); isFull(err) {
		s.markFull(err)
	} else if err != nil {
		return err
	}
	return nil
}

// isFull reports whether an error says that there is no room, which may pass.
func isFull(err error) bool {
	if errors.Is(err, outbox.ErrPoisoned) || errors.Is(err, outbox.ErrCorrupt) {
		return false // whatever else is joined to it (P10, P11)
	}
	return errors.Is(err, outbox.ErrDiskFull) || errors.Is(err, outbox.ErrFull)
}

// markFull has nothing more accepted until the flusher finds that there is room.
func (s *Store) markFull(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noRoom == nil {
		s.opts.logger.Warn("outbox: full, nothing is accepted until there is room again", "store", s.dir, "error", cause)
	}
	s.noRoom = cause
	s.madeRoomLocked() // there is nothing to wait for
}

// markRoom ends what markFull has begun.
func (s *Store) markRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noRoom != nil {
		s.opts.logger.Info("outbox: there is room again", "store", s.dir)
		s.overlay.news.gap = s.gapsAhead.owes() // there was none for the event that tells of it
		defer s.announceLocked()
	}
	s.noRoom = nil
	s.quarantineRest()
}

// refusal is why nothing is accepted, or nil.
func (s *Store) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noRoom
}

// writeZeros gives a file its blocks where the system has no other way.
func writeZeros(f *os.File, from, end int64) error {
	zeros := make([]byte, 64<<10)
	for from < end {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-from)], from)
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return f.Sync()
}
