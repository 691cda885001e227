package mem

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Store is an [outbox.Store], [outbox.NameNotifier], [outbox.Watcher], [outbox.Exporter] and
// [outbox.Importer] in memory. It is safe for
// concurrent use. Make one with [New].
type Store struct {
	started time.Time // when New ran, with its monotonic reading: zero of the store's clock

	mu        sync.Mutex // guards what follows; never held while the caller's code runs
	tasks     []*entry   // all that wait, are in flight or are dead; ordered by ID
	lastID    outbox.ID  // the highest ID ever handed out or accepted
	lastToken uint64     // the token of the latest claim
	turns     uint64     // tasks claimed so far: see outbox.Turn
	accepted  uint64
	delivered uint64
	requeued  uint64
	dropped   outbox.Dropped
	spent     map[string]time.Time             // Unique keys that are taken after a delivery, and until when
	gaps      map[outbox.Reason]*outbox.Untold // what was dropped and no gap has told of
	told      map[outbox.Reason]outbox.ID      // the latest gap
	closed    bool
	unheard   outbox.Dropped                 // of dropped: what watchers have not heard of
	buried    outbox.Buried                  // the same of what the store has buried
	news      news                           // what listeners have not heard of
	listeners map[*func(names []string)]bool // and whether they want to hear of no names too
	watchers  map[*outbox.Watch]struct{}
}

var (
	_ outbox.Store        = (*Store)(nil)
	_ outbox.NameNotifier = (*Store)(nil)
	_ outbox.Watcher      = (*Store)(nil)
	_ outbox.Exporter     = (*Store)(nil)
	_ outbox.Importer     = (*Store)(nil)
)

// New returns an empty store.
func New() *Store {
	return &Store{
		started: time.Now(), spent: map[string]time.Time{},
		listeners: map[*func([]string)]bool{}, watchers: map[*outbox.Watch]struct{}{},
		gaps: map[outbox.Reason]*outbox.Untold{}, told: map[outbox.Reason]outbox.ID{},
	}
}

// Close forgets everything. Calls after it return [outbox.ErrClosed]; a second
// Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.tasks, s.listeners, s.watchers = nil, nil, nil
	return nil
}

// entry is a task as the store holds it. Its Token is that of the latest claim.
// It outlives the lease, so that an outcome which comes late still counts if
// nobody else has claimed the task since.
type entry struct {
	outbox.Task
	leaseEnd time.Time // of the claim that Token names
	replaced bool      // a newer LatestOnly task came while it was in flight: it must not wait again
}

// step runs f as one indivisible step: on an open store, at one moment of its
// clock, after the leases that had run out by then were ended.
func (s *Store) step(ctx context.Context, f func(now time.Time) error) error {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return outbox.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mem: nothing done: %w", err)
	}
	now := s.now()
	s.lapseLocked(now)
	return f(now)
}

// change is a step after which tasks may have become claimable.
func (s *Store) change(ctx context.Context, f func(now time.Time) error) error {
	ran := false
	err := s.step(ctx, func(now time.Time) error {
		ran = true
		return f(now)
	})
	if ran {
		s.notify(true)
	}
	return err
}

// now reads the store's clock: the wall time of New plus the time that has passed
// since on the monotonic clock. A wall clock that jumps does not move it (P12).
func (s *Store) now() time.Time {
	return s.started.Round(0).UTC().Add(time.Since(s.started))
}

// after returns the moment d after now; a negative d counts as none.
func after(now time.Time, d time.Duration) time.Time { return now.Add(max(d, 0)) }

// findLocked returns the entry with that ID, or nil.
func (s *Store) findLocked(id outbox.ID) *entry {
	if i, found := s.searchLocked(id); found {
		return s.tasks[i]
	}
	return nil
}

// searchLocked returns where in s.tasks the ID is, or where it would have to be.
func (s *Store) searchLocked(id outbox.ID) (int, bool) {
	return slices.BinarySearchFunc(s.tasks, id, func(e *entry, id outbox.ID) int {
		return e.ID.Compare(id)
	})
}

// removeLocked takes the entry out: delivered or dropped.
func (s *Store) removeLocked(e *entry) {
	if i, found := s.searchLocked(e.ID); found {
		s.tasks = slices.Delete(s.tasks, i, i+1)
	}
}

// dropLocked removes the entry and counts why (P5).
func (s *Store) dropLocked(e *entry, why outbox.Reason) {
	s.removeLocked(e)
	s.endedLocked(e)
	s.dropped.Add(why, 1)
	s.unheard.Add(why, 1)
	s.missLocked(outbox.UntoldOf(e.Task, why))
}

// out returns the task as callers see it. What they get and what the store holds
// share no memory.
func (e *entry) out() outbox.Task {
	t := clone(e.Task)
	t.Attempt = 0
	if t.State == outbox.InFlight {
		t.Attempt = t.Attempts + 1
	} else {
		t.Token = 0 // of a claim whose lease has run out
	}
	return t
}

// clone copies a task with all that it points to.
func clone(t outbox.Task) outbox.Task {
	t.Payload = bytes.Clone(t.Payload)
	t.Headers = maps.Clone(t.Headers)
	t.Failures = slices.Clone(t.Failures)
	return t
}
