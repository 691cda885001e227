package bolt

import (
	"context"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// recovery brings a store to where it was: the database as of its log position,
// then the log after it.
type recovery struct {
	s        *Store
	b        buckets
	state    state
	seen     moment // the last in the log
	lastID   outbox.ID
	records  int
	baseline bool         // a baseline of this checkpoint was met
	salvaged wal.Position // baselines up to here say nothing
}

// recover replays the log onto the database and moves the result there at once:
// what was read is written again and synced, rather than trusted because the page
// cache shows it (R10). It can be cut short anywhere and done again (R28). It costs
// what the log holds, not what waits.
func (s *Store) recover(ctx context.Context) error {
	r, begin := recovery{s: s}, time.Now()
	err := s.view(func(tx *bbolt.Tx) (err error) {
		if r.b, err = openBuckets(tx); err != nil {
			return err
		}
		if r.state, err = readState(r.b.meta, s.path); err != nil {
			return err
		}
		if r.salvaged, err = readSalvaged(r.b.meta, s.path); err != nil {
			return err
		}
		k, _ := r.b.keys.Cursor().First()
		s.overlay.hasKeys = k != nil || r.b.parked != nil
		s.foundQueues(s.findQueues(r.b))
		if err = r.replay(); err != nil {
			return err
		}
		return s.takeStock(r.b)
	})
	if err != nil {
		return err
	}
	s.base, s.checkpoint, s.gapsAhead = r.state.ledger, r.state.checkpoint, s.gaps
	s.ids = newIDs(r.lastID)
	if r.lastID != (outbox.ID{}) {
		s.ids.skip()
	}
	s.clock, s.noted = newClock(s.opts.wallClock(), r.seen), r.seen.clock
	if r.records > 0 {
		s.opts.logger.Info("outbox: recovered", "store", s.dir, "records", r.records,
			"waiting", s.base.waiting()+s.since.waiting(), "torn_bytes", s.log.Recovery().TornBytes)
		switch err := s.flush(ctx); {
		case isFull(err): // all is in the log, and stays there: what waits can be delivered (P9)
		case err != nil:
			return err
		}
	} else if err := s.trim(s.checkpoint + 1); err != nil {
		return err
	}
	if r.records > 0 {
		s.recovered = recovered{records: r.records, took: time.Since(begin)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = true
	for _, e := range s.overlay.entries { // none, unless the flush had no room
		s.revive(e)
	}
	return nil
}

// revive gives an entry of recovery the place in memory that it would have had
// without the restart. mu is held.
func (s *Store) revive(e *entry) {
	switch {
	case e.gone, e.state == outbox.Dead:
		s.overlay.keepLane(e)
		if e.spent != 0 {
			s.overlay.reserveSpent(e)
		}
		if !e.gone && e.damaged == homeNone && e.parksFor(e.reason) {
			s.overlay.park(e)
		}
	case e.damaged != homeNone:
		s.quarantine(e)
	default:
		s.overlay.holdIfNewest(e)
		s.overlay.enter(e)
	}
}

// replay applies the log's records behind the checkpoint.
func (r *recovery) replay() error {
	s := r.s
	s.applied, s.gaps, s.gapsAt = r.state.checkpoint, r.state.gaps, r.state.gapsAt
	r.seen, r.lastID = r.state.seen, r.state.lastID
	first, next := s.log.First(), s.log.Next()
	if knows := r.state.knows(); next <= knows {
		return fmt.Errorf("%w: store %s: the log ends at record %d, but the database knows record %d: one of them was replaced by an older copy",
			outbox.ErrMismatch, s.dir, next-1, knows)
	}
	for rec, err := range s.log.Replay(r.state.checkpoint + 1) {
		if err != nil {
			return s.translate(err)
		}
		if err := decodeOps(rec.Data, func(o op) error { return r.apply(rec.Position, &o) }); err != nil {
			return fmt.Errorf("log of store %s, record %d: %w", s.dir, rec.Position, err)
		}
	}
	if first > r.state.checkpoint+1 && !r.baseline {
		return fmt.Errorf("%w: store %s: the log begins at record %d, but the database knows only record %d: one of them was replaced by another copy",
			outbox.ErrMismatch, s.dir, first, r.state.checkpoint)
	}
	return nil
}

// apply applies one operation, as the running store did when it became durable.
func (r *recovery) apply(pos wal.Position, o *op) error {
	s := r.s
	switch o.kind {
	case opBase:
		return r.base(pos, o)
	case opGaps:
		if pos > s.gapsAt {
			s.gaps.apply(o, true)
		}
		return nil
	}
	r.records++
	c := change{pos: pos, kind: o.kind, op: o}
	var err error
	if o.kind == opCreate {
		c.e, err = r.create(o)
		if err == nil && o.replaces != (outbox.ID{}) {
			c.replaced = r.find(o.replaces)
		}
		if err == nil && o.outdates != (outbox.ID{}) {
			c.outdated = r.find(o.outdates)
		}
	} else {
		r.seen.pass(o.clock)
		c.e = r.find(o.id)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(&c)
	if o.kind == opRequeue && c.e != nil && r.outdated(&c.e.header) {
		s.outdate(c.e, o.clock) // by a transaction, later: else it had not been requeued
	}
	return nil
}

// base takes over the sums of a log whose beginning is gone. One of an earlier
// checkpoint has nothing to say: all that it sums up is in the database.
func (r *recovery) base(pos wal.Position, o *op) error {
	s := r.s
	if pos <= r.salvaged && o.base.checkpoint != r.state.checkpoint {
		return nil
	}
	if o.base.checkpoint > r.state.checkpoint {
		return fmt.Errorf("%w: store %s: log record %d follows the checkpoint at %d, but the database knows only record %d: it was replaced by an older copy",
			outbox.ErrMismatch, s.dir, pos, o.base.checkpoint, r.state.checkpoint)
	}
	if o.base.checkpoint < r.state.checkpoint {
		return nil
	}
	r.baseline = true
	s.since = o.base.since
	r.saw(o.base.lastID)
	r.seen.pass(o.base.clock)
	return nil
}

func (r *recovery) saw(id outbox.ID) {
	if id.Compare(r.lastID) > 0 {
		r.lastID = id
	}
}

// create makes the entry of a create record. The database may have the task
// already, from a checkpoint that was cut short.
func (r *recovery) create(o *op) (*entry, error) {
	raw := append([]byte(nil), o.raw...)
	h, err := decodeHeader(raw)
	if err != nil {
		return nil, err
	}
	r.saw(h.id)
	if o.sched != nil { // of another store, which says when it was created
		r.seen.pass(acceptedAt(raw))
	} else {
		r.seen.see(moment{clock: acceptedAt(raw), wall: h.created})
	}
	e := r.find(h.id)
	if e != nil && e.damaged != homeNone {
		r.heal(e, h, raw)
	}
	if e != nil {
		return e, nil
	}
	e = newEntry(h, raw)
	if o.sched != nil {
		e.sched = *o.sched
	}
	if r.outdated(&h) {
		// Replaced in a transaction; the record that drops it may have been lost, and the
		// newer one must not be gone before it is. See outdate.
		r.s.outdate(e, acceptedAt(raw))
	}
	r.s.overlay.admit(e)
	return e, nil
}

// heal gives a task whose value in the database is damaged the bytes that the log
// still has.
func (r *recovery) heal(e *entry, h header, raw []byte) {
	e.header, e.raw, e.damaged, e.rewritten = h, raw, homeNone, true
	e.sched = schedule{due: h.due}
	if s, err := loadSchedule(r.b, h.id); err == nil && s != nil {
		e.sched = *s
	}
	e.dueAt(e.sched.due)
	if e.home == homeDead || e.home == homeDamaged {
		e.state, e.reason = outbox.Dead, outbox.ReasonDamaged
	}
	r.s.overlay.weigh(e)
}

// find returns a task from memory or from the database; nil if nothing is left of
// it.
func (r *recovery) find(id outbox.ID) *entry {
	if e := r.s.overlay.entries[id]; e != nil {
		if e.gone {
			return nil
		}
		return e
	}
	if l := load(r.b, id); l != nil {
		return r.s.admitLoaded(l)
	}
	return nil
}
