package bolt

import (
	"context"
	"fmt"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// victims knows the oldest tasks that wait, or the oldest that are dead: those that a
// quota drops first. Looking for them costs a scan of some hundred at a time, each of
// which begins where the last one ended, so a drop costs little however many there
// are.
//
// Of every task of the kind whose ID is at or below bound, unless it is kept, either its
// ID is in ids, or something is happening to it, and when that ends saw is called. So the first of ids
// that can be dropped is the oldest that can.
type victims struct {
	ids   []outbox.ID // rising
	bound outbox.ID   // zero: nothing was looked for so far, and saw has nothing to do
	most  int         // so many are looked for at once
}

// victimsAtOnce is how many tasks one look brings into memory, unless that many are
// needed for a larger batch; with at most refillBytes (P7).
const victimsAtOnce = 512

// saw notes that a task has begun to wait, or to be dead and at rest.
func (v *victims) saw(id outbox.ID) {
	if id.Compare(v.bound) > 0 {
		return
	}
	i, known := slices.BinarySearchFunc(v.ids, id, outbox.ID.Compare)
	if known {
		return
	}
	v.ids = slices.Insert(v.ids, i, id)
	if most := max(v.most, victimsAtOnce); len(v.ids) > 2*most {
		v.ids = v.ids[:most]
		v.bound = v.ids[most-1] // the others will be found again
	}
}

// kept reports whether an entry is one that no quota drops: an event that tells of a gap,
// while it waits, or a damaged one, which is about to be a dead letter.
func (e *entry) kept(of home) bool { return (e.gap || e.damaged != homeNone) && of == homeTasks }

// droppable reports whether a quota may drop an entry of this home. mu is held.
func (e *entry) droppable(of home) bool {
	return !e.gone && !e.kept(of) && e.phase == idle && e.charged == of && (e.state == outbox.Dead) == (of == homeDead)
}

// pick chooses among the tasks of a home that are in memory whom to drop, oldest
// first, and says how much is lacking then. It stops at the first that would have to
// be read. mu is held.
func (s *Store) pick(of home, want amount) (picked []*entry, rest amount) {
	v, o := &s.overlay.victims[of], &s.overlay
	for len(v.ids) > 0 {
		if e := o.entries[v.ids[0]]; e == nil || e.phase == idle && !e.gone && (e.state == outbox.Dead) == (of == homeDead) {
			break
		}
		v.ids = v.ids[1:] // should it come back, saw is called
	}
	spare := s.use[of].tasks
	if of == homeDead {
		spare-- // the newest stays
	}
	for _, id := range v.ids {
		e := o.entries[id]
		if want.none() || e == nil || spare == 0 {
			break
		}
		if e.droppable(of) {
			picked = append(picked, e)
			want.add(amount{1, e.cost}, -1)
			spare--
		}
	}
	return picked, want
}

// pickFor is pick for new tasks. Those that they replace go anyway, and are no victims.
// mu is held.
func (s *Store) pickFor(full *fullError) (picked []*entry, rest amount) {
	for _, r := range full.replaced {
		if r != nil && r.charged == homeTasks {
			r.charged = homeNone
			defer func() { r.charged = homeTasks }()
		}
	}
	return s.pick(homeTasks, full.lacks)
}

// drop is the decision to drop entries for a quota. mu is held.
func (s *Store) drop(entries []*entry) []decided {
	list := make([]decided, len(entries))
	for i, e := range entries {
		list[i] = decided{e, s.dropOf(e, dropQuota)}
	}
	return list
}

// withDrops puts what is dropped for new tasks in front of their records: all are one
// group of the log, so that nobody is dropped for an event that was not accepted.
func withDrops(drops []decided, records [][]byte) [][]byte {
	if len(drops) == 0 {
		return records
	}
	return append([][]byte{recordOf(drops)}, records...)
}

// leastCost is less than any event costs.
const leastCost = 128

// atOnce is how many victims to look for, where entries want room: enough for all of
// them if they are as large, so that one record drops and accepts.
func (s *Store) atOnce(entries []*entry) (most, limit int) {
	most = min(victimsAtOnce, max(s.opts.softEntries/4, 1))
	cost := totalCost(entries).bytes
	return max(most, len(entries), int(cost/leastCost)), max(refillBytes, int(cost))
}

// findRoom sees to it that the next try of DropOldest has victims at hand. Where more
// has to go than is brought into memory at once, because the store was opened with a
// smaller quota or a transaction has exceeded it, it drops a part of it.
func (s *Store) findRoom(ctx context.Context, entries []*entry, full *fullError) error {
	for {
		most, limit := s.atOnce(entries)
		var found, partly, transient bool
		if s.seeking.Lock(); s.hasRoom(full) { // somebody else has looked meanwhile
			s.seeking.Unlock()
			return nil
		}
		err := s.findVictims(homeTasks, most, limit, func(more bool) error {
			now := s.shortOf(full.asked)
			if found = now == nil; found {
				return nil
			}
			now.replaced = full.replaced
			picked, rest := s.pickFor(now)
			found, full = rest.none(), now
			transient = s.unsure[homeTasks].tasks > 0 || s.retrying > 0
			if found || !more || !s.canFree(now) {
				return nil
			}
			partly = true
			return s.recordBy(s.log.Queue, s.drop(picked))
		})
		s.seeking.Unlock()
		switch {
		case err != nil || found:
			return err
		case partly:
			return s.makeRoom(ctx)
		case !transient:
			return full // all is in flight
		}
		// What others have handed in a moment ago can be dropped once it is durable.
		if err := s.syncLog(ctx); ctx.Err() != nil {
			return fmt.Errorf("%w: %w", full, ctx.Err()) // nothing was accepted
		} else if err != nil {
			return err
		}
	}
}

// hasRoom reports whether there is room now, or victims at hand.
func (s *Store) hasRoom(full *fullError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.shortOf(full.asked)
	if now == nil {
		return true
	}
	now.replaced = full.replaced
	_, rest := s.pickFor(now)
	return rest.none()
}

// canFree reports whether so much can be dropped at all, as things stand: nobody is
// dropped, in part, for what is refused then. mu is held.
func (s *Store) canFree(full *fullError) bool {
	free, lacks := s.counted(), full.lacks
	for _, r := range full.replaced {
		if r != nil && r.charged == homeTasks {
			free.add(amount{1, r.cost}, -1)
		}
	}
	for _, e := range s.overlay.leases.list {
		if !e.gap {
			free.add(amount{1, e.cost}, -1)
		}
	}
	lacks.add(free, -1)
	return lacks.none()
}
