package bolt

import (
	"context"
	"errors"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// syncer makes settled outcomes durable, at the latest the time of WithAckSync
// after the first of them (P3). Started by Open, ended by Close through stop, which
// waits for it.
func (s *Store) syncer() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.wakeSync:
		}
		select {
		case <-s.stop:
			return
		case <-time.After(s.opts.ackSync):
		}
		_ = s.translate(s.log.Sync(context.Background())) // a failure poisons the store, and every caller is told
	}
}

// flusher keeps overlay and log within their bounds. It is apart from the syncer
// because it may have to wait for the database's writer lock. Started by Open,
// ended by Close through stop, which waits for it.
func (s *Store) flusher() {
	idle := time.NewTicker(idleCheckpoint)
	defer idle.Stop()
	last := s.log.Next()
	for {
		var err error
		select {
		case <-s.stop:
			return
		case <-s.wakeFlush:
			err = s.relieve()
		case <-idle.C:
			if next := s.log.Next(); next != last {
				last = next
			} else {
				err = s.flushIdle()
				last = s.log.Next()
			}
		}
		if err == nil {
			continue
		}
		s.opts.logger.Error("outbox: checkpoint", "store", s.dir, "error", err)
		if !errors.Is(err, outbox.ErrDiskFull) {
			_ = s.poison(err)
			return
		}
		select { // everything is in the log still; try again when there may be room
		case <-s.stop:
			return
		case <-time.After(stopWait):
			wake(s.wakeFlush)
		}
	}
}

// relieve makes room in the overlay and in the log.
func (s *Store) relieve() error {
	s.mu.Lock()
	usable, crowded := s.usable() == nil, s.crowded()
	many := s.overlay.over(s.opts.softEntries, softBytes)
	s.mu.Unlock()
	if !usable || !crowded {
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
