package bolt

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// WithTx returns a context in which Enqueue writes the event as a part of tx: it
// is accepted when tx commits, together with the application's own data, and was
// never there when tx is rolled back. tx is a writable transaction of the store's
// database, from [Store.Update] or, for an attached store, the application's own.
//
// Events of one ordering key are delivered in the order of their IDs among those
// that wait. The ID is given when Enqueue is called, which for an event in a
// transaction is before it is accepted, so an event accepted outside of the
// transaction meanwhile may overtake it.
//
// A Unique key is checked against what was accepted before. Of two events with
// the same one, one in an open transaction and one outside of it, both may be
// accepted. Likewise an event with a LatestOnly key that is accepted outside of the
// transaction meanwhile does not replace the one in it, and both may be delivered.
func WithTx(ctx context.Context, tx *bbolt.Tx) context.Context { return outbox.WithTx(ctx, tx) }

// Update runs f in a writable transaction of the store's database and commits it
// if f returns nil. Use it with [WithTx] to accept events together with data of
// the application's own, in buckets of its own. Only one such transaction runs at
// a time; while it lasts events are accepted outside of it, but nothing moves to
// the database, so keep it short. Do not keep tx.DB(): another one takes its place when
// the file is compacted. On a full disk f may use free pages only. A commit that fails
// for another reason than a full disk ends the store with [outbox.ErrPoisoned].
//
// If f panics, the transaction is rolled back and the panic goes on, whatever it is:
// f reads its own buckets, so what it meets there is the application's business. A
// page so damaged that reading it is a memory fault, which would end the program
// otherwise, is such a panic here: a runtime.Error with a method Addr. A panic of
// bbolt in Create, called with tx, is the error of that Create.
func (s *Store) Update(ctx context.Context, f func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bolt: update: %w", err)
	}
	s.mu.Lock()
	err := s.usable()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var tx *bbolt.Tx
	defer func() {
		if tx != nil {
			s.ended(tx)
		}
	}()
	_, err = s.write(forApplication, func(begun *bbolt.Tx) error {
		tx = begun
		return f(tx)
	})
	return err
}

// txGroup is what one Create put into a transaction. Until the store knows whether
// that was committed the group stands in Store.groups under each of its IDs: bbolt
// tells of a commit a moment after it, and of a rollback never.
type txGroup struct {
	tx    *bbolt.Tx
	items []txItem
	use   amount
	holds bool // its use is in Store.txUse
	known bool // committed, and memory knows
}

type txItem struct {
	place
	cost     int64
	key      string
	latest   string
	outdated place // of the task in the database whose LatestOnly key it takes over; or zero
}

// createInTx writes tasks into the application's transaction.
func (s *Store) createInTx(some any, tasks []outbox.Task, entries []*entry) error {
	tx, ok := some.(*bbolt.Tx)
	if !ok || tx == nil || tx.DB() != s.db.Load() || !tx.Writable() {
		return fmt.Errorf("%w: it is not an open, writable transaction of %s", outbox.ErrTxUnsupported, s.path)
	}
	s.mu.Lock()
	b, err := s.lookInTx(tx, entries)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	g := &txGroup{tx: tx}
	if err := s.takeRoomInTx(g, entries); err != nil {
		s.mu.Unlock()
		return err
	}
	s.date(tasks, entries)
	for _, e := range entries {
		g.items = append(g.items, txItem{place: e.header.at(e.when), cost: e.cost, key: e.key, latest: e.latest})
		s.groups[e.id] = g
	}
	last, seen := s.ids.last, s.moment()
	s.mu.Unlock()

	outdated, err := s.writeInTx(b, entries, last, seen)
	if err != nil {
		return fmt.Errorf("bolt: create in transaction: %w", err)
	}
	s.mu.Lock()
	for i := range outdated {
		g.items[i].outdated = outdated[i]
	}
	s.mu.Unlock()
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.commitGroup(g)
	})
	fill(tasks, entries)
	return nil
}

// lookInTx finds the buckets, and refuses duplicates. mu is held.
func (s *Store) lookInTx(tx *bbolt.Tx, entries []*entry) (b buckets, err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	if b, err = openBuckets(tx); err != nil {
		return b, err
	}
	if err = s.usable(); err == nil {
		s.reconcile(tx, b)
		err = s.checkKeysInTx(b, entries)
	}
	return b, err
}

// writeInTx writes the tasks. If bbolt panics, the transaction has half of them and
// must not be committed: the store ends, and with it [Store.Update].
func (s *Store) writeInTx(b buckets, entries []*entry, last outbox.ID, seen moment) (outdated []place, err error) {
	path, whole := s.path, false
	defer func() {
		if !whole {
			err = s.poison(err)
		}
	}()
	defer contain(&err, path, debug.SetPanicOnFault(true))
	outdated, err = putInTx(b, path, entries, last, seen)
	whole = true
	return outdated, err
}

// sound returns why the store has failed, or nil.
func (s *Store) sound() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func putInTx(b buckets, path string, entries []*entry, last outbox.ID, seen moment) (outdated []place, err error) {
	w := newWriter(b)
	outdated = make([]place, len(entries))
	for i, e := range entries {
		if outdated[i], err = w.outdate(e.latest, seen.clock); err != nil {
			return nil, err
		}
		it := e.snapshot()
		it.holdsUnique, it.holdsLatest = true, true // checkKeysInTx has seen to that, whoever has them here still
		if err := w.put(&it); err != nil {
			return nil, err
		}
	}
	if err := w.finish(path); err != nil {
		return nil, err
	}
	return outdated, changeState(b.meta, path, func(st *state) {
		st.ledger.accepted += int64(len(entries))
		st.lastID = last
		st.seen.see(seen)
	})
}

// checkKeysInTx refuses duplicates, as claimKeys does, among what memory and the
// transaction see. mu is held; the transaction is the only writer, and what it
// reads here is little.
func (s *Store) checkKeysInTx(b buckets, entries []*entry) error {
	own, ids, latest := map[string]bool{}, map[outbox.ID]bool{}, map[string]outbox.ID{}
	for _, e := range entries {
		if e.id != (outbox.ID{}) && (ids[e.id] || s.overlay.entries[e.id] != nil || load(b, e.id) != nil) {
			return fmt.Errorf("%w: ID %s", outbox.ErrDuplicate, e.id)
		}
		ids[e.id] = true
		if e.latest != "" && e.id == (outbox.ID{}) {
			latest[e.latest] = maxID // it will have one above all that are known
		} else if e.latest != "" {
			if holder := s.newestInTx(b, e.latest, latest[e.latest]); holder.Compare(e.id) > 0 {
				return outdatedError(e, holder)
			}
			latest[e.latest] = e.id
		}
		if e.unique == "" {
			continue
		}
		now := s.clock.now()
		taken := own[e.unique] || s.overlay.holderOf(e.unique, now) != nil || s.spentUntil(b, e.unique) > now
		if v := b.sole.Get(uniquePlace(e.unique)); len(v) == len(outbox.ID{}) {
			if s.overlay.entries[outbox.ID(v)] == nil { // else memory knows whether it still holds
				l := load(b, outbox.ID(v))
				taken = taken || l != nil && l.home == homeTasks && l.bad == nil
			}
		}
		if taken {
			return fmt.Errorf("%w: unique key %q", outbox.ErrDuplicate, e.unique)
		}
		own[e.unique] = true
	}
	return nil
}

// newestInTx returns the highest ID that has a LatestOnly key and waits or is in flight,
// in memory, in the transaction, or own. mu is held.
func (s *Store) newestInTx(b buckets, latest string, own outbox.ID) outbox.ID {
	newest := own
	if e := s.overlay.latest[latest]; e != nil && e.id.Compare(newest) > 0 {
		newest = e.id
	}
	if v := b.sole.Get(latestPlace(latest)); len(v) == len(newest) && outbox.ID(v).Compare(newest) > 0 {
		if s.overlay.entries[outbox.ID(v)] == nil { // else memory has said whether it holds
			if l := load(b, outbox.ID(v)); l != nil && l.home == homeTasks && l.bad == nil {
				newest = outbox.ID(v)
			}
		}
	}
	return newest
}

// commitGroup tells memory that a group's tasks are in the database and may be
// claimed. It does so once, whoever notices the commit first. mu is held.
func (s *Store) commitGroup(g *txGroup) {
	if g.known {
		return
	}
	g.known = true
	s.base.accepted += int64(len(g.items))
	for _, it := range g.items {
		s.use.put(&header{queue: it.queue, cost: it.cost}, homeTasks, 1)
	}
	s.letGoOfRoom(g)
	if s.opts.overflow == DropOldest {
		s.checkQuota(homeTasks)
	}
	s.generation++
	o := &s.overlay
	for _, it := range g.items {
		delete(s.groups, it.id)
		o.victims[homeTasks].saw(it.id)
		o.look(it.place)
		o.news.listed(o.queue(it.queue))
		if it.key != "" {
			o.hasKeys = true
			o.limitSeen(it.key, it.id)
		}
		if it.outdated != (place{}) {
			if e := o.entries[it.outdated.id]; e != nil && e.home == homeTasks {
				e.homeWhen = it.outdated.when
			}
			o.look(it.outdated)
			o.news.listed(o.queue(it.outdated.queue))
		}
		if it.latest != "" {
			s.outdateOlder(it.latest, it.id)
		}
	}
	s.announceLocked()
}

// reconcile finds out what became of the groups of earlier transactions: a later
// writer sees all that was committed before it, so what it does not see was rolled
// back. mu is held.
func (s *Store) reconcile(tx *bbolt.Tx, b buckets) {
	for id, g := range s.groups {
		switch {
		case g.tx == tx || g.known:
		case b.tasks.Get(id[:]) != nil:
			s.commitGroup(g)
		default:
			s.letGoOfRoom(g)
			delete(s.groups, id)
		}
	}
}
