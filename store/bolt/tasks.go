package bolt

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// pageSize is how many tasks a listing looks at in one transaction.
const pageSize = 256

// Tasks implements [outbox.Store]. It goes through the store page by page; no
// transaction and no lock is held while the caller has a task in hand (R35), and
// memory does not depend on how many there are.
func (s *Store) Tasks(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return s.list(ctx, f, nil)
}

// list is Tasks, or Export if touch is given.
func (s *Store) list(ctx context.Context, f outbox.Filter, touch func(*outbox.Task)) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		l := listing{s: s, filter: f, after: f.After, touch: touch}
		listed := 0
		for {
			page, err := l.next(ctx)
			if err != nil {
				yield(outbox.Task{}, err)
				return
			}
			if page == nil {
				return
			}
			for _, t := range page {
				if !f.Match(t) {
					continue
				}
				if !yield(t, nil) {
					return
				}
				if listed++; f.Limit > 0 && listed >= f.Limit {
					return
				}
			}
		}
	}
}

// listing goes through memory and database in the order of IDs.
type listing struct {
	s      *Store
	filter outbox.Filter
	memory []outbox.ID // what was in memory when the listing began and is above after
	begun  bool
	after  outbox.ID // all up to it was listed; maxID at the end

	touch func(*outbox.Task) // of an export: what remains to be done to each task. It leaves out what is outdated
}

// candidate is a task that may be on the page.
type candidate struct {
	id    outbox.ID
	value []byte // of the database, while the transaction lasts; nil if only memory has it
	home  home
}

// next returns the tasks of the next page, nil at the end.
func (l *listing) next(ctx context.Context) ([]outbox.Task, error) {
	if l.after == maxID {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("bolt: tasks: %w", err)
	}
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	page := []outbox.Task{}
	var b buckets
	var candidates []candidate
	var end outbox.ID
	err := l.s.read(func(tx *bbolt.Tx) (err error) {
		if b, err = openBuckets(tx); err != nil {
			return err
		}
		candidates, end, err = l.scan(b)
		return err
	}, func() error {
		var err error
		page, err = l.merge(b, candidates, end)
		return err
	})
	if err != nil {
		return nil, l.s.translate(err)
	}
	l.after = end
	return page, nil
}

// begin makes what was settled before the listing count, and notes what is in
// memory: what leaves it later will be found in the database.
func (l *listing) begin(ctx context.Context) error {
	if l.begun {
		return nil
	}
	l.begun = true
	if err := l.s.syncLog(ctx); err != nil {
		return l.s.translate(err)
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for id := range l.s.overlay.entries {
		if id.Compare(l.after) > 0 {
			l.memory = append(l.memory, id)
		}
	}
	slices.SortFunc(l.memory, outbox.ID.Compare)
	return nil
}

// scan reads places behind after, and says up to which ID it has seen them all.
func (l *listing) scan(b buckets) ([]candidate, outbox.ID, error) {
	var all []candidate
	end := maxID
	for _, one := range [...]struct {
		bucket *bbolt.Bucket
		name   []byte
		home   home
		wanted bool
	}{
		{b.tasks, bucketTasks, homeTasks, l.filter.Wants(outbox.Waiting) || l.filter.Wants(outbox.InFlight)},
		{b.dead, bucketDead, homeDead, true}, // one requeued a moment ago is still there
		{b.damaged, bucketDamaged, homeDamaged, b.damaged != nil && l.filter.Wants(outbox.Dead)},
	} {
		if !one.wanted {
			continue
		}
		c := one.bucket.Cursor()
		k, v := c.Seek(l.after[:])
		if bytes.Equal(k, l.after[:]) {
			k, v = c.Next()
		}
		up := climb{last: l.after[:]}
		for n := 0; k != nil; k, v = c.Next() {
			if err := up.to(k, one.name); err != nil {
				return nil, end, err
			}
			if len(k) != len(end) {
				continue
			}
			if n++; n > pageSize {
				break
			}
			all = append(all, candidate{outbox.ID(k), v, one.home})
		}
		if k != nil {
			if last := all[len(all)-1].id; last.Compare(end) < 0 {
				end = last
			}
		}
	}
	if len(l.memory) > pageSize && l.memory[pageSize-1].Compare(end) < 0 {
		end = l.memory[pageSize-1]
	}
	return all, end, nil
}

// merge puts the page together: memory knows better than the database. mu is
// held.
func (l *listing) merge(b buckets, candidates []candidate, end outbox.ID) ([]outbox.Task, error) {
	var order []candidate
	for _, c := range candidates {
		if c.id.Compare(end) <= 0 {
			order = append(order, c)
		}
	}
	n := 0
	for ; n < len(l.memory) && l.memory[n].Compare(end) <= 0; n++ {
		order = append(order, candidate{id: l.memory[n]})
	}
	l.memory = l.memory[n:]
	// A task may be there twice, from memory and from the database.
	slices.SortStableFunc(order, func(a, b candidate) int { return a.id.Compare(b.id) })
	order = slices.CompactFunc(order, func(a, b candidate) bool { return a.id == b.id })
	page := make([]outbox.Task, 0, len(order))
	for _, f := range order {
		t, ok, err := l.one(b, f)
		if err != nil {
			return nil, err
		}
		if ok {
			page = append(page, t)
		}
	}
	return page, nil
}

// one decodes a task from memory, or from the database if memory does not have
// it.
func (l *listing) one(b buckets, f candidate) (t outbox.Task, ok bool, err error) {
	if e := l.s.overlay.entries[f.id]; e != nil {
		if e.gone || e.phase == queued || l.touch != nil && e.stale && e.state == outbox.Waiting {
			return t, false, nil
		}
		t, err = e.view().task()
	} else if f.value == nil {
		return t, false, nil
	} else {
		if g := l.s.groups[f.id]; g != nil {
			l.s.commitGroup(g)
		}
		var d *loaded
		switch f.home {
		case homeDead:
			d = loadDead(b, f.id, f.value)
		case homeDamaged:
			d = loadDamaged(f.id, f.value)
		default:
			d = loadWaiting(b, f.id, f.value)
		}
		if d.bad != nil && d.home != homeDamaged {
			l.s.admitLoaded(d)
		}
		if l.touch != nil && d.bad == nil && d.home == homeTasks && (d.stale || d.sched.stale) {
			return t, false, nil
		}
		t, err = d.task()
	}
	t.Token = 0
	if l.touch != nil {
		l.touch(&t)
	}
	return t, err == nil, err
}

// task decodes a task of the database.
func (l *loaded) task() (outbox.Task, error) {
	v := view{raw: l.raw, sched: l.sched, due: l.sched.due, reason: l.reason, id: l.header.id, damaged: l.from}
	if l.home == homeDead {
		v.state = outbox.Dead
	}
	return v.task()
}
