package postgres

import (
	"context"
	"math/rand/v2"
	"time"
)

// Notify has f called after each call of this store that may have made tasks claimable,
// in the goroutine of that call, and when a look at the database finds some, see
// [WithRetryInterval], until stop is called.
func (s *Store) Notify(f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return func() {}
	}
	s.listeners[&f] = struct{}{}
	if s.stopLooking == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.stopLooking = cancel
		s.looking.Go(func() { s.look(ctx) })
		if s.listener != nil {
			s.looking.Go(func() { s.listen(ctx) })
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &f)
		if len(s.listeners) == 0 && s.stopLooking != nil {
			s.stopLooking()
			s.stopLooking = nil
		}
	}
}

// notify calls the listeners, without the lock.
func (s *Store) notify() {
	s.mu.Lock()
	all := make([]*func(), 0, len(s.listeners))
	for f := range s.listeners {
		all = append(all, f)
	}
	s.mu.Unlock()
	for _, f := range all {
		(*f)()
	}
}

// jitter is the retry interval, a quarter more or less.
func (s *Store) jitter() time.Duration {
	return s.retryInterval - s.retryInterval/4 + rand.N(s.retryInterval/2+1)
}

// claimableSQL says whether a claim may find something.
var claimableSQL = `SELECT coalesce(least(` + firstDue("") + `) <= clock_timestamp(), false)
	OR EXISTS (SELECT FROM goutbox_marks)
	OR coalesce(` + firstLease + ` <= clock_timestamp(), false)`

// look looks now and then whether others have made something claimable. It ends with the
// last listener, or the store.
func (s *Store) look(ctx context.Context) {
	timer := time.NewTimer(s.jitter())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		found := false
		// A database that can not be reached has nothing to tell; a claim will say so.
		err := s.db.QueryRowContext(ctx, s.names.of(claimableSQL)).Scan(&found)
		if err == nil && found && ctx.Err() == nil {
			s.notify()
		}
		timer.Reset(s.jitter())
	}
}

// channel is the name under which instances notify each other.
func (s *Store) channel() string { return s.names.table + "_" + s.names.schema }

// announce has the commit tell other instances, if that is wanted.
func (w *work) announce(ctx context.Context) error {
	if w.s.listener == nil {
		return nil
	}
	return w.exec(ctx, `SELECT pg_notify($1, '')`, w.s.channel())
}

// listen hears what others announce.
func (s *Store) listen(ctx context.Context) {
	for ctx.Err() == nil {
		_ = s.listener.Listen(ctx, s.channel(), s.notify) // polling goes on meanwhile
		timer := time.NewTimer(s.jitter())
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}
