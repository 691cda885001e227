package postgres

import (
	"context"
	"fmt"
	"sync"
)

// room bounds how many calls of Create are at work while an outbox delivers from the store. They are
// many, one for each caller, and each wants a connection; claims and settles are one each, of all events. In
// the queue for a connection behind dozens of the former the latter come to nothing, so half of the
// pool is left to them.
type room struct {
	mu      sync.Mutex // guards what follows; held for a few instructions
	n       int        // at work
	waiting []chan struct{}
}

// roomFor is how many may be at work with a pool of so many connections; 0 = any number.
func roomFor(conns int) int {
	if conns <= 0 {
		return 0
	}
	return max(conns/2, 1)
}

// enter returns when there is room, first come, first served, and has the caller call leave then.
func (r *room) enter(ctx context.Context, most int) error {
	r.mu.Lock()
	if most == 0 || r.n < most && len(r.waiting) == 0 {
		r.n++
		r.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	r.waiting = append(r.waiting, mine)
	r.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, one := range r.waiting {
		if one == mine {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			return fmt.Errorf("postgres: create: nothing done: %w", ctx.Err())
		}
	}
	return nil // its turn came at this moment
}

// leave gives the place to the one that waits longest.
func (r *room) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.n--
		return
	}
	close(r.waiting[0])
	r.waiting = r.waiting[1:]
}

// enter waits until a Create may begin.
func (s *Store) enter(ctx context.Context) error {
	most := 0
	if s.started() {
		most = roomFor(s.db.Stats().MaxOpenConnections)
	}
	return s.room.enter(ctx, most)
}

// started reports whether an outbox delivers from this store.
func (s *Store) started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners) > 0
}
