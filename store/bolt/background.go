package bolt

import (
	"context"
	"errors"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// syncer makes settled outcomes durable, at the latest the time of WithAckSync
// after the first of them (P3), and syncs once in each Interval of WithSync. Started by
// Open, ended by Close through stop, which waits for it.
func (s *Store) syncer() {
	ticks, stop := s.opts.sync.ticks()
	defer stop()
	settled, due := s.wakeSync, (<-chan time.Time)(nil)
	for {
		select {
		case <-s.stop:
			return
		case <-settled:
			settled, due = nil, time.After(s.opts.ackSync)
		case <-due:
			settled, due = s.wakeSync, nil
			_ = s.translate(s.syncLog(context.Background())) // a failure poisons the store, and every caller is told
		case <-ticks:
			_ = s.syncInterval() // likewise
		}
	}
}

// flusher keeps overlay and log within their bounds, and a spare segment ready. It
// is apart from the syncer because it may have to wait for the database's writer
// lock. Started by Open, ended by Close through stop, which waits for it.
func (s *Store) flusher() {
	idle := time.NewTicker(idleCheckpoint)
	defer idle.Stop()
	last, full := s.log.Next(), false
	for err := s.prepareLog(); ; {
		switch {
		case err == nil:
			if full {
				s.opts.logger.Info("outbox: disk has room again", "store", s.dir)
			}
			full = false
		case !errors.Is(err, outbox.ErrDiskFull):
			_ = s.poison(err)
			return
		case !full:
			full = true
			s.opts.logger.Warn("outbox: disk full", "store", s.dir, "error", err)
		}
		var again <-chan time.Time
		if full { // everything is in the log still; try again when there may be room (P9)
			again = time.After(fullPause)
		}
		select {
		case <-s.stop:
			return
		case <-again:
			err = errors.Join(s.giveBackSpace(), s.prepareLog())
		case <-s.wakeFlush:
			err = errors.Join(s.prepareLog(), s.relieve())
		case <-idle.C:
			err = nil
			if next := s.log.Next(); next == last {
				err = errors.Join(s.flushIdle(), s.noteTime(context.Background(), noteOpen))
			}
			last = s.log.Next()
		}
	}
}

// prepareLog has the log make its next segment ahead of need, so that no caller
// waits for it, and so that a full disk is noticed while there is still room in the
// log to settle what is delivered (R38).
func (s *Store) prepareLog() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.relieving.Store(true) // what makes room in memory comes after it
	defer s.relieving.Store(false)
	s.unprepared.Store(0)
	return s.translate(s.log.Prepare())
}

// relieve makes room in the overlay and in the log.
func (s *Store) relieve() error {
	s.sweep()
	s.mu.Lock()
	disordered := s.disordered && s.usable() == nil
	s.mu.Unlock()
	if disordered {
		if err := s.reindex(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	usable, long := s.usable() == nil, s.logged.Load() > heldSegments*s.opts.segmentBytes
	many := s.overlay.over(s.opts.softEntries, softBytes)
	s.mu.Unlock()
	if !usable || !many && !long {
		return nil
	}
	ctx := context.Background()
	if !many {
		if err := s.lighten(ctx); err != nil {
			return err
		}
		if s.log.Stats().Segments <= heldSegments {
			return nil
		}
	}
	return s.flush(ctx)
}

// giveBackSpace frees what can be freed of the log when the disk is full, so that
// accepting goes on when what was in the way is delivered (P9).
func (s *Store) giveBackSpace() error {
	s.mu.Lock()
	usable, applied := s.usable() == nil, s.applied
	s.mu.Unlock()
	if !usable || applied == s.freed {
		return nil
	}
	s.freed = applied
	if err := s.lighten(context.Background()); err != nil || s.log.Stats().Segments <= 1 {
		return err
	}
	return s.flush(context.Background())
}

// flushIdle moves what waits to the database when nothing has been going on for a
// while.
func (s *Store) flushIdle() error {
	s.mu.Lock()
	dirty := s.overlay.dirty
	s.mu.Unlock()
	if dirty == 0 {
		return nil
	}
	return s.flush(context.Background())
}
