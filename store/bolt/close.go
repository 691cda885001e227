package bolt

import (
	"context"
	"errors"
)

// Close implements [outbox.Store]: it refuses new work, moves what waits to the
// database, and lets go of the files. A clean close leaves no delivery to be made
// twice (P3). An attached database stays open. Close waits for a transaction that
// is open in another goroutine; the caller must have none open itself.
//
// On a full disk what found no room in the database stays in the log, where it is as
// durable, and the next Open goes on from there. Close then returns nil.
//
// After a failure of the store, Close only lets go of the files, and returns that
// failure.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	s.madeRoomLocked()
	s.mu.Unlock()

	close(s.stop)
	s.background.Wait()
	s.claiming.Lock() // a claim that has begun ends before its database does
	defer s.claiming.Unlock()

	s.mu.Lock()
	err := s.failed
	s.mu.Unlock()
	if err == nil {
		err = s.flush(context.Background())
		if err == nil {
			err = s.noteTime(context.Background())
		}
	}
	s.tell(nil) // what has become durable since the background ended

	if isFull(err) { // flush has synced the log before it looked at the database
		s.opts.logger.Warn("outbox: closed on a full disk, what waits is in the log", "store", s.dir, "error", err)
		err = nil
	}
	return errors.Join(err, s.release())
}

// release lets go of what Open took, as far as it came.
func (s *Store) release() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.owned && s.db.Load() != nil {
		errs = append(errs, s.closeDatabase())
	}
	errs = append(errs, s.lock.release())
	return errors.Join(errs...)
}
