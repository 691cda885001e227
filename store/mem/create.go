package mem

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Create accepts tasks, all or none.
//
// Name, Key, sizes and the like are package outbox's to check. Of the input,
// State, Token, Reason, CreatedAt, DueAt and ExpiresAt count for nothing; Attempts
// and Failures are kept. What comes from another store as it was there is for Import.
func (s *Store) Create(ctx context.Context, tasks []outbox.Task) error {
	return s.change(ctx, func(now time.Time) error {
		if outbox.TxFrom(ctx) != nil {
			return fmt.Errorf("mem: create: %w", outbox.ErrTxUnsupported)
		}
		ids, last, err := s.assignLocked(tasks)
		if err != nil {
			return err
		}
		if err := s.refuseLocked(tasks, ids, now); err != nil {
			return err
		}
		s.lastID = last
		wall := time.Now().Round(0).UTC()
		for i := range tasks {
			s.acceptLocked(&tasks[i], ids[i], wall, now)
		}
		// Only now: a task later in the batch may have replaced an earlier one.
		for i := range tasks {
			if tasks[i].Lease > 0 {
				s.claimNewLocked(&tasks[i], now)
			}
		}
		return nil
	})
}

// refuseLocked says why the batch cannot be accepted, before anything of it is:
// each ID and each Unique key may be held once, by what is here already or by one
// task of the batch. A dead task holds its ID, but no key. A task takes the place of
// one with its LatestOnly key only if that is older, by their IDs.
func (s *Store) refuseLocked(tasks []outbox.Task, ids []outbox.ID, now time.Time) error {
	seenID, seenUnique, seenLatest := map[outbox.ID]bool{}, map[string]bool{}, map[string]outbox.ID{}
	for i, t := range tasks {
		if seenID[ids[i]] || s.findLocked(ids[i]) != nil {
			return fmt.Errorf("mem: create: task %d: ID %s: %w", i, ids[i], outbox.ErrDuplicate)
		}
		seenID[ids[i]] = true
		if seenLatest[t.LatestOnly].Compare(ids[i]) > 0 || s.outdatedLocked(t.LatestOnly, ids[i]) {
			return fmt.Errorf("mem: create: task %d: latest only key %q has a newer one than %s: %w", i, t.LatestOnly, ids[i], outbox.ErrDuplicate)
		}
		if t.LatestOnly != "" {
			seenLatest[t.LatestOnly] = ids[i]
		}
		if t.Unique == "" {
			continue
		}
		if seenUnique[t.Unique] || s.uniqueTakenLocked(t.Unique, now) {
			return fmt.Errorf("mem: create: task %d: unique key %q: %w", i, t.Unique, outbox.ErrDuplicate)
		}
		seenUnique[t.Unique] = true
	}
	return nil
}

// uniqueTakenLocked reports whether a task with that Unique key waits or is in
// flight, or one was delivered less than its UniqueFor ago. One whose time-to-live has
// run out counts until Claim has dropped it.
func (s *Store) uniqueTakenLocked(key string, now time.Time) bool {
	return s.spent[key].After(now) || slices.ContainsFunc(s.tasks, func(e *entry) bool {
		return e.Unique == key && e.State != outbox.Dead
	})
}

// latestTakenLocked reports whether a task with that LatestOnly key waits or is in
// flight, one aside that a newer has replaced.
func (s *Store) latestTakenLocked(key string) bool {
	return slices.ContainsFunc(s.tasks, func(e *entry) bool {
		return e.LatestOnly == key && e.State != outbox.Dead && !e.replaced
	})
}

// outdatedLocked reports whether a task with that LatestOnly key and a higher ID waits or
// is in flight, one aside that a newer has replaced.
func (s *Store) outdatedLocked(key string, id outbox.ID) bool {
	return key != "" && slices.ContainsFunc(s.tasks, func(e *entry) bool {
		return e.LatestOnly == key && e.State != outbox.Dead && !e.replaced && e.ID.Compare(id) > 0
	})
}

// acceptLocked puts one task in and fills in, in the caller's, what the store has
// decided.
func (s *Store) acceptLocked(t *outbox.Task, id outbox.ID, wall, now time.Time) {
	t.ID, t.CreatedAt, t.Attempt = id, wall, 0
	t.State, t.Reason, t.Token = outbox.Waiting, "", 0
	t.Priority = min(max(t.Priority, outbox.Low), outbox.High)
	t.KeyPolicy = min(t.KeyPolicy, outbox.ParkWholeKey)
	t.DueAt, t.ExpiresAt = after(now, t.Delay), time.Time{}
	if t.TTL > 0 {
		t.ExpiresAt = after(now, t.TTL)
	}
	e := &entry{Task: clone(*t)}
	e.Delay, e.TTL, e.Lease, e.UniqueFor = 0, 0, 0, max(e.UniqueFor, 0)
	if e.LatestOnly != "" {
		s.replaceLocked(e.LatestOnly)
	}
	i, _ := s.searchLocked(id)
	s.tasks = slices.Insert(s.tasks, i, e)
	s.waitsLocked(e)
	s.accepted++
}

// replaceLocked makes room for a newer task with that LatestOnly key: what waits
// is dropped; what is in flight may still be delivered, but must not wait again.
// Dead tasks are left to their reader.
func (s *Store) replaceLocked(key string) {
	for _, e := range slices.Clone(s.tasks) {
		if e.LatestOnly != key {
			continue
		}
		switch e.State {
		case outbox.Waiting:
			s.dropLocked(e, outbox.ReasonCoalesced)
		case outbox.InFlight:
			e.replaced = true
		}
	}
}

// claimNewLocked claims a task in the step that accepted it, if Claim would.
func (s *Store) claimNewLocked(t *outbox.Task, now time.Time) {
	e := s.findLocked(t.ID)
	if e == nil || e.DueAt.After(now) || !s.headLocked(e) || s.parkedLocked(e) {
		return
	}
	s.leaseLocked(e, t.Lease, now)
	t.State, t.Token, t.Attempt = e.State, e.Token, e.Attempts+1
}
