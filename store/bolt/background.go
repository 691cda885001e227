package bolt

import (
	"context"
	"errors"
	"time"

	"github.com/goutbox/goutbox/wal"
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

// flusher keeps overlay and log within their bounds, and room ready in log and
// database. It is apart from the syncer because it may have to wait for the database's
// writer lock. Started by Open, ended by Close through stop, which waits for it.
func (s *Store) flusher() {
	idle := time.NewTicker(idleCheckpoint)
	defer idle.Stop()
	last, took := s.log.Next(), time.Duration(0)
	for err := s.prepare(); ; {
		var again <-chan time.Time
		switch {
		case err == nil:
			s.markRoom()
		case !isFull(err):
			_ = s.poison(err)
			return
		default: // everything is in the log still; try again when there may be room (P9)
			s.markFull(err)
			again = time.After(fullPause)
		}
		select {
		case <-s.stop:
			return
		case <-again:
			err = errors.Join(s.giveBackSpace(), s.prepare())
		case <-s.wakeFlush:
			if err == nil {
				err = errors.Join(s.recycle(), s.prepare(), s.relieve())
				break
			}
			select { // the log is being used up, or a settle found no room in it; many may follow
			case <-s.stop:
				return
			case <-time.After(2*took + fullPause/50):
			}
			start := time.Now()
			err = errors.Join(s.giveBackSpace(), s.prepare())
			took = time.Since(start)
		case <-idle.C:
			if err != nil {
				break
			}
			if next := s.log.Next(); next == last {
				err = errors.Join(s.flushIdle(), s.forgetSpent())
				wake(s.wakeCompact) // the application may have deleted what was its own
			}
			last = s.log.Next()
		}
	}
}

// prepare makes room ahead of need, in the log for the next segment, so that no caller
// waits for it, and in the database for a checkpoint that only removes. So a full disk
// is noticed while there is still room to settle what is delivered (R38).
func (s *Store) prepare() error {
	defer s.beginRelief()()
	s.unprepared.Store(0)
	return errors.Join(s.translate(s.prepareLog()), s.extend(s.needed), s.upgrade())
}

// prepareLog has the log make spare segments. On a full disk one of two is enough if all
// the rest is recycled: then tasks find room in the database's free pages, and what was
// in the log before them makes the next spare.
func (s *Store) prepareLog() error {
	err := s.log.Prepare()
	if l := s.log.Stats(); errors.Is(err, wal.ErrNoSpace) && l.Segments <= 1 && l.Spares > 0 {
		return nil
	}
	return err
}

// recycle gives the log back what was delivered since it last began a segment, before
// prepare makes new ones: a segment that is written again spares the disk the zeros of
// another. Where memory has too much as well, relieve sees to both.
func (s *Store) recycle() error {
	s.mu.Lock()
	due := s.usable() == nil && s.logged.Load() > s.opts.segmentBytes && !s.overlay.over(s.opts.softEntries, softBytes)
	keep := s.overlay.neededFrom(s.applied)
	s.mu.Unlock()
	if !due {
		return nil
	}
	if !s.log.Trims(keep) { // an old event is there still: look again a segment later
		s.logged.Store(0)
		return nil
	}
	return s.lighten(context.Background())
}

// relieve makes room in the overlay, and in the log if recycle could not.
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
	usable, many := s.usable() == nil, s.overlay.over(s.opts.softEntries, softBytes)
	s.mu.Unlock()
	if !usable || !many && s.log.Stats().Segments <= heldSegments {
		return nil
	}
	return s.flush(context.Background())
}

// freed is what was applied, and how many segments lay ready in the log, when space was last
// given back. Trying again brings nothing as long as neither has changed, and costs a log
// record.
type freed struct {
	applied wal.Position
	spares  int
}

// giveBackSpace frees what can be freed of memory and log when there is no room, so
// that accepting goes on when what was in the way is delivered (P9).
func (s *Store) giveBackSpace() error {
	s.mu.Lock()
	usable, now := s.usable() == nil, freed{applied: s.applied, spares: s.log.Stats().Spares}
	s.mu.Unlock()
	if !usable || now == s.freed {
		return nil
	}
	defer func() { s.freed = freed{now.applied, s.log.Stats().Spares} }()
	ctx := context.Background()
	err := s.lighten(ctx)
	s.mu.Lock()
	many := s.overlay.over(s.opts.softEntries, softBytes)
	s.mu.Unlock()
	switch {
	case err != nil && !isFull(err):
		return err
	case err == nil && !many && s.log.Stats().Segments <= 1:
		s.flushing.Lock()
		s.needed = 0 // nothing has to move
		s.flushing.Unlock()
		return nil
	}
	return s.flush(ctx)
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
