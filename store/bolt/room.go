package bolt

import (
	"context"
	"fmt"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// used is what the quota goes by: what waits and is in flight, durable or not, and
// what is promised to those that waited and to open transactions. mu is held.
func (s *Store) used() amount {
	u := s.counted()
	u.add(s.granted, 1)
	if s.opts.overflow != DropOldest { // nothing is dropped for what may yet be rolled back
		u.add(s.txUse, 1)
	}
	return u
}

// shortOf says what is lacking for so much more, or nil. What takes no more than it
// gives back fits always, however full the store is. mu is held.
func (s *Store) shortOf(need amount) *fullError {
	used := s.used()
	sum := used
	sum.add(need, 1)
	lacks := sum.excess(s.opts.quota)
	if need.bytes <= 0 {
		lacks.bytes = 0
	}
	if need.tasks <= 0 {
		lacks.tasks = 0
	}
	if lacks.none() {
		return nil
	}
	return &fullError{used: used, asked: need, quota: s.opts.quota, lacks: lacks}
}

// accept queues new tasks, and sees to room for them as the policy says. While it
// waits it holds nothing, so whoever settles meanwhile can go on.
func (s *Store) accept(ctx context.Context, tasks []outbox.Task, d *draft) (wal.Position, error) {
	entries := d.entries
	var granted amount
	for relax := false; ; relax = s.opts.overflow != DropOldest {
		if relax { // else a checkpoint would take away the victims that were just found
			if err := s.makeRoom(ctx); err != nil {
				s.ungrant(granted)
				return 0, err
			}
		}
		pos, err := s.queue(tasks, d, granted)
		full, short := err.(*fullError)
		if !short {
			if err != nil {
				s.ungrant(granted)
			}
			return pos, err
		}
		for i, e := range entries { // as if it had not been tried
			e.id, e.prior = tasks[i].ID, nil
		}
		switch s.opts.overflow {
		case Block:
			granted = totalCost(entries)
			if err := s.awaitRoom(ctx, granted, full); err != nil {
				return 0, err
			}
		case DropOldest:
			if err := s.findRoom(ctx, entries, full); err != nil {
				return 0, s.translate(err)
			}
		default:
			return 0, full
		}
	}
}

// shortage says what the quota lacks for entries, of which some replace others, or nil.
// mu is held.
func (s *Store) shortage(entries, replaced []*entry) *fullError {
	need := totalCost(entries)
	for _, r := range replaced {
		if r != nil {
			need.add(amount{1, r.cost}, -1)
		}
	}
	full := s.shortOf(need)
	switch {
	case full == nil && len(s.waiters) > 0 && !need.none(): // they have waited longer
		return &fullError{used: s.used(), asked: need, quota: s.opts.quota, lacks: need}
	case full != nil && s.opts.overflow != DropOldest:
		s.sweepLocked()
	}
	return full
}

// takeRoom says whether there is room for entries, of which some replace others; for
// DropOldest also who must go for that. What was granted before is theirs. mu is held.
func (s *Store) takeRoom(entries, replaced []*entry, granted amount) ([]decided, error) {
	if s.opts.quota == (amount{}) || granted != (amount{}) {
		return nil, nil
	}
	full := s.shortage(entries, replaced)
	switch {
	case full == nil:
		return nil, nil
	case s.opts.overflow != DropOldest:
		return nil, full
	}
	full.replaced = replaced
	victims, rest := s.pickFor(full)
	if !rest.none() {
		return nil, full
	}
	return s.drop(victims), nil
}

// waiter is a call of Create that waits for room.
type waiter struct {
	need    amount
	granted bool
	ready   chan struct{} // closed when room was granted, and when the store ends
}

// awaitRoom waits until so much was granted. Those who wait stand in a queue, and the
// first gets what is free as soon as it is enough for it: so nobody misses a wake-up
// and small events do not starve a large batch.
func (s *Store) awaitRoom(ctx context.Context, need amount, full *fullError) error {
	w := &waiter{need: need, ready: make(chan struct{})}
	s.mu.Lock()
	err := s.usable()
	if err == nil {
		s.waiters = append(s.waiters, w)
		s.grantLocked() // what was in the way may be gone since
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err = s.usable(); err == nil && ctx.Err() != nil {
		if now := s.shortOf(need); now != nil {
			full = now
		}
		err = fmt.Errorf("%w: waited for room: %w", full, ctx.Err())
	}
	switch {
	case err == nil:
		return nil
	case w.granted:
		s.granted.add(need, -1)
	default:
		s.waiters = slices.DeleteFunc(s.waiters, func(other *waiter) bool { return other == w })
	}
	s.grantLocked()
	return err
}

// grantLocked gives what is free to those who wait. It is called whenever there may be
// more, or when the first of them has left. mu is held.
func (s *Store) grantLocked() {
	for len(s.waiters) > 0 {
		w := s.waiters[0]
		if s.shortOf(w.need) != nil {
			return
		}
		s.waiters = slices.Delete(s.waiters, 0, 1)
		s.granted.add(w.need, 1)
		w.granted = true
		close(w.ready)
	}
}

// ungrant gives back what was granted for nothing.
func (s *Store) ungrant(granted amount) {
	if granted == (amount{}) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted.add(granted, -1)
	s.grantLocked()
}

// dismissLocked wakes all who wait for room, when the store is of no more use. mu is
// held.
func (s *Store) dismissLocked() {
	for _, w := range s.waiters {
		close(w.ready)
	}
	s.waiters = nil
}
