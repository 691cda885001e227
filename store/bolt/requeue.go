package bolt

import (
	"context"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// Requeue implements [outbox.Store]. A dead letter whose Unique or LatestOnly key
// is held by another task stays dead and is reported as [outbox.ErrDuplicate]. A
// requeued task no longer expires: somebody wants it delivered.
func (s *Store) Requeue(ctx context.Context, ids ...outbox.ID) (int, error) {
	return s.change(ctx, "requeue", ids, func(e *entry) (*op, error) {
		if e.damaged != homeNone {
			return nil, fmt.Errorf("%w: task %s is damaged, and can only be listed and deleted", outbox.ErrCorrupt, e.id)
		}
		if e.state != outbox.Dead || e.phase != idle {
			return nil, fmt.Errorf("%w: dead task %s", outbox.ErrNotFound, e.id)
		}
		now := s.clock.now()
		if err := s.uniqueTaken(e, now); err != nil {
			return nil, fmt.Errorf("task %s: %w", e.id, err)
		}
		if holder := s.overlay.latest[e.latest]; holder != nil {
			return nil, fmt.Errorf("%w: a key of %s is held by %s", outbox.ErrDuplicate, e.id, holder.id)
		}
		return &op{kind: opRequeue, id: e.id, clock: now}, nil
	})
}

// changeAtOnce is how many tasks one step of change brings into memory at most, if
// they are small (P7).
const (
	changeAtOnce = 1024
	changeBytes  = 2 << 20 // unless the first of them alone has more
)

// change decides on an operation for each of the tasks, and waits until all are
// durable. It returns how many there were; why the others were refused is joined.
func (s *Store) change(ctx context.Context, what string, ids []outbox.ID, decide func(*entry) (*op, error)) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("bolt: %s: %w", what, err)
	}
	// What was settled before this call shall be seen by it.
	if err := s.syncLog(ctx); err != nil {
		return 0, s.translate(err)
	}
	changed := 0
	var refused []error
	for len(ids) > 0 {
		if err := s.makeRoom(ctx); err != nil && !isFull(s.refusal()) { // on a full disk deleting is what brings room (P9)
			return changed, err
		}
		seen, n, no, err := s.changeSome(ctx, ids[:min(len(ids), changeAtOnce)], decide)
		changed += n
		refused = append(refused, no...)
		if err != nil {
			return changed, s.translate(err)
		}
		ids = ids[seen:]
	}
	return changed, errors.Join(refused...)
}

// changeSome does that for the first of the tasks, so many that they fit into memory,
// and says how many those were.
func (s *Store) changeSome(ctx context.Context, ids []outbox.ID, decide func(*entry) (*op, error)) (seen, changed int, refused []error, err error) {
	var found []*loaded
	var asked []*entry
	var pos wal.Position
	err = s.read(func(tx *bbolt.Tx) error {
		var err error
		seen, found, asked, err = s.loadForChange(tx, ids, s.headersOf(ids))
		return err
	}, func() error {
		for _, l := range found {
			s.admitLoaded(l)
		}
		taken := map[string]int64{}
		for _, e := range asked {
			taken[e.unique] = e.taken
		}
		for _, id := range ids[:seen] {
			e := s.overlay.entries[id]
			if e == nil || e.gone || e.phase == queued {
				refused = append(refused, fmt.Errorf("%w: task %s", outbox.ErrNotFound, id))
				continue
			}
			e.taken = taken[e.unique]
			o, err := decide(e)
			if err != nil {
				refused = append(refused, err)
				continue
			}
			if err := s.recordLocked([]decided{{e, o}}); err != nil {
				return err
			}
			changed++
		}
		pos = s.log.Next() - 1
		return nil
	})
	if err != nil || changed == 0 {
		return seen, changed, refused, err // those that came before the error take effect all the same
	}
	return seen, changed, refused, s.log.Wait(ctx, pos)
}

// headersOf returns what memory knows of tasks, as entries that are good for
// loadHolders only.
func (s *Store) headersOf(ids []outbox.ID) (entries []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if e := s.overlay.entries[id]; e != nil {
			entries = append(entries, keysOf(e.header))
		}
	}
	return entries
}

// keysOf returns an entry whose holders are those of the keys alone: the task itself
// is known.
func keysOf(h header) *entry { return &entry{header: header{unique: h.unique, latest: h.latest}} }

// loadForChange reads tasks, and whoever holds their keys and those of the entries. It
// says how many of the IDs it has seen to: as many as changeBytes allow (P7). asked are
// the entries, with what loadHolders says of their Unique keys.
func (s *Store) loadForChange(tx *bbolt.Tx, ids []outbox.ID, entries []*entry) (seen int, found []*loaded, asked []*entry, err error) {
	b, err := openBuckets(tx)
	if err != nil {
		return 0, nil, nil, err
	}
	bytes := 0
	for ; seen < len(ids) && bytes < changeBytes; seen++ {
		if l := load(b, ids[seen]); l != nil {
			bytes += len(l.raw) + l.sched.weight()
			found = append(found, l)
			entries = append(entries, keysOf(l.header))
		}
	}
	return seen, append(found, s.loadHolders(b, entries)...), entries, nil
}
