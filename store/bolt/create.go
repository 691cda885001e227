package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// Create implements [outbox.Store]. The tasks become one group of log records:
// durable together with whatever else waits for the same sync, and visible only
// after it (P1).
//
// When the overlay is full, Create waits for the checkpoint that is then running.
// If that cannot begin because a transaction of the application holds the
// database's writer lock, it gives up after a second with [outbox.ErrFull]: the
// caller may be the one who holds the transaction open. While the disk is full it
// refuses with [outbox.ErrDiskFull]; see reserve.go.
func (s *Store) Create(ctx context.Context, tasks []outbox.Task) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bolt: create: %w", err)
	}
	if len(tasks) == 0 {
		return nil
	}
	if err := checkKeys(tasks); err != nil {
		return err
	}
	for i := range tasks {
		if tasks[i].ID.Time() > outbox.MaxIDTime { // also maxID, which is none of a task
			return fmt.Errorf("%w: no ID is left above %s", outbox.ErrInvalid, tasks[i].ID)
		}
	}
	if tx := outbox.TxFrom(ctx); tx != nil {
		if err := s.refusal(); err != nil {
			return err
		}
		var d draft
		d.encode(tasks)
		if err := s.opts.tooLarge(totalCost(d.entries)); err != nil {
			return err
		}
		return s.createInTx(tx, tasks, d.entries)
	}
	if err := s.admission(ctx); err != nil {
		return err
	}
	d := drafts.Get().(*draft)
	defer d.free()
	d.encode(tasks) // not before: many may wait for room
	if err := s.opts.tooLarge(totalCost(d.entries)); err != nil {
		return err
	}
	pos, err := s.accept(ctx, tasks, d)
	if err == nil {
		if err = s.translate(s.log.Wait(ctx, pos)); err != nil {
			s.abandonLeases(d.entries)
		}
	}
	if errors.Is(err, outbox.ErrDiskFull) {
		s.markFull(err)
		wake(s.wakeFlush)
	}
	if err != nil {
		return err
	}
	s.reportLeases(tasks, d.entries)
	return nil
}

// checkKeys refuses keys that are too long for the database: a checkpoint would fail on them
// when the tasks are accepted already.
func checkKeys(tasks []outbox.Task) error {
	for i := range tasks {
		if t := &tasks[i]; max(len(t.Key), len(t.Unique), len(t.LatestOnly)) > outbox.MaxKeyBytes {
			return fmt.Errorf("%w: a key of %q has more than %d bytes", outbox.ErrTooLarge, t.Name, outbox.MaxKeyBytes)
		}
	}
	return nil
}

// fill tells the caller what the store has decided. mu is held: once the records
// are queued the entries may change.
func fill(tasks []outbox.Task, entries []*entry) {
	for i, e := range entries {
		t := &tasks[i]
		t.ID, t.CreatedAt, t.DueAt = e.id, wall(e.created), wall(e.header.due)
		t.ExpiresAt = time.Time{}
		if e.expires != 0 {
			t.ExpiresAt = wall(e.expires)
		}
		t.State, t.Token, t.Reason = outbox.Waiting, 0, ""
	}
}

// queue takes the tasks' place in the order of events: it assigns IDs and times
// and queues the records, all or none. What the quota has granted them before becomes
// theirs. Without room the error is a *fullError, and nothing has changed.
func (s *Store) queue(tasks []outbox.Task, d *draft, granted amount) (pos wal.Position, err error) {
	entries, records, replaced := d.entries, d.records, d.replaced
	err = s.withKeys(entries, func() error {
		s.date(tasks, entries)
		chosen := slices.ContainsFunc(tasks, func(t outbox.Task) bool { return t.ID != outbox.ID{} })
		if err := s.claimKeys(entries, replaced, chosen); err != nil {
			return err
		}
		drops, err := s.takeRoom(entries, replaced, granted)
		if err != nil {
			s.unclaimKeys(entries)
			return err
		}
		var bytes int64
		for i, r := range records {
			var old, outdated outbox.ID
			if replaced[i] != nil {
				old = replaced[i].id
			} else if p := entries[i].prior; p != nil {
				outdated = p.id
			}
			records[i] = sealCreate(r, old, outdated, &entries[i].sched)
			bytes += int64(len(records[i]))
		}
		pos, err = s.log.Queue(withDrops(drops, records)...)
		if err != nil {
			s.unclaimKeys(entries)
			return err
		}
		s.count(bytes)
		first := pos - wal.Position(len(entries)) + 1
		s.bookLocked(drops, first-1)
		s.granted.add(granted, -1)
		for i, e := range entries {
			c := change{pos: first + wal.Position(i), kind: opCreate, e: e, replaced: replaced[i]}
			if c.replaced == nil {
				c.outdated = e.prior
			}
			s.bookCreate(&c)
		}
		s.grantLocked() // one that was replaced gives room
		fill(tasks, entries)
		return nil
	})
	return pos, s.translate(err)
}

// bookCreate notes what the record of a new task, which is queued, will do. mu is held.
func (s *Store) bookCreate(c *change) {
	s.chargeCreate(c)
	s.inbox = append(s.inbox, *c)
	delete(s.groups, c.e.id) // of a transaction that was rolled back
	if r := c.replaced; r != nil {
		if r.phase == idle {
			s.overlay.keepLane(r)
			s.overlay.depart(r)
		}
		r.phase = ending
	}
}

// date assigns IDs and times. mu is held, so both rise from call to call (P4).
func (s *Store) date(tasks []outbox.Task, entries []*entry) {
	date, now := s.opts.wallClock(), s.clock.now()
	created := nanos(date)
	s.noted = now
	var fresh map[queueName]bool
	for i, e := range entries {
		t := &tasks[i]
		if t.ID == (outbox.ID{}) {
			e.id = s.ids.next(uint64(max(date.UnixMilli(), 0)))
		} else {
			s.ids.saw(e.id)
		}
		s.enroll(e, t, created, now, later(now, t.Delay), &fresh)
	}
}

// enroll gives an entry that has its ID its queue and its times. mu is held.
func (s *Store) enroll(e *entry, t *outbox.Task, created, now, due int64, fresh *map[queueName]bool) {
	e.queue = s.assign(queueName{class: t.Priority, name: t.Name}, fresh)
	stampQueue(e.raw, e.queue.name == "")
	e.created, e.header.due, e.expires = created, due, 0
	if t.TTL > 0 {
		e.expires = later(now, t.TTL)
	}
	e.sched.due = due
	e.dueAt(due)
	stamp(e.raw, e.id, created, now, due, e.expires)
}

// withKeys calls f under mu, with the store usable and with every holder of the
// entries' IDs, Unique and LatestOnly keys in memory, where claimKeys can see it.
// If a task is to be claimed at once, the lane of its key is there too. Most events
// have no such keys and need no look at the database.
func (s *Store) withKeys(entries []*entry, f func() error) error {
	wanted := false
	var keys []laneLookup
	for _, e := range entries {
		wanted = wanted || e.unique != "" || e.latest != "" || e.id != outbox.ID{}
		if e.lease > 0 && e.key != "" {
			keys = append(keys, laneLookup{key: e.key})
		}
	}
	s.mu.Lock()
	if !wanted && (len(keys) == 0 || !s.overlay.hasKeys) {
		defer s.mu.Unlock()
		if err := s.usable(); err != nil {
			return err
		}
		return f()
	}
	s.mu.Unlock()
	lanes := &refillResult{s: s, whole: true, lanes: keys}
	var found []*loaded
	return s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		found = s.loadHolders(b, entries)
		lanes.forgetFound()
		lanes.scanLanes(b)
		return lanes.broken
	}, func() error {
		for _, l := range found {
			s.admitLoaded(l)
		}
		for _, e := range entries {
			if e.lease > 0 {
				s.overlay.keepLane(e)
			}
		}
		s.mergeRefill(lanes)
		err := f()
		if err != nil {
			for _, e := range entries {
				s.overlay.letGo(e)
			}
		}
		return err
	})
}

// claimKeys makes the new entries, which were dated, the holders of their IDs and keys, or
// says who holds one already. It notes in replaced, for each, the waiting LatestOnly task
// that it supersedes. IDs are asked for if some were chosen by the caller: a new one is above
// all others. mu is held.
func (s *Store) claimKeys(entries, replaced []*entry, chosen bool) error {
	for i, e := range entries {
		replaced[i] = nil
		if chosen && s.overlay.entries[e.id] != nil {
			s.unclaimKeys(entries[:i])
			return fmt.Errorf("%w: ID %s", outbox.ErrDuplicate, e.id)
		}
		if e.unique != "" {
			if err := s.uniqueTaken(e, s.clock.now()); err != nil {
				s.unclaimKeys(entries[:i])
				return err
			}
		}
		if other := s.overlay.latest[e.latest]; e.latest != "" && other != nil {
			if other.id.Compare(e.id) > 0 { // the database goes by the higher ID too
				s.unclaimKeys(entries[:i])
				return outdatedError(e, other.id)
			}
			e.prior = other
			if other.phase == idle || other.phase == queued {
				replaced[i] = other
			} else {
				other.stale = true // it is in flight; should it come back, it is dropped
			}
		}
		s.overlay.admit(e)
		s.overlay.reserve(e)
	}
	return nil
}

// outdatedError refuses an older task of a LatestOnly key.
func outdatedError(e *entry, holder outbox.ID) error {
	return fmt.Errorf("%w: latest only key %q is held by %s, which is newer than %s", outbox.ErrDuplicate, e.latest, holder, e.id)
}

// unclaimKeys takes claimKeys back.
func (s *Store) unclaimKeys(entries []*entry) {
	for i := len(entries) - 1; i >= 0; i-- {
		s.unclaim(entries[i])
	}
}

// unclaim makes an entry that is not to be disappear, and gives the LatestOnly key
// that it took back, unless the task that had it was outdated for good meanwhile. Only a
// transaction can have done that: records behind e's fail with it, and one in front of it
// would be that of a task from which e took the key instead.
func (s *Store) unclaim(e *entry) {
	s.overlay.forget(e)
	if p := e.prior; p != nil && s.overlay.entries[p.id] == p && !p.gone && !p.sched.stale {
		p.stale = false
		s.overlay.latest[p.latest] = p
	}
}

// reportLeases tells Create's caller which tasks were claimed for it.
func (s *Store) reportLeases(tasks []outbox.Task, entries []*entry) {
	for i := range tasks {
		if tasks[i].Lease <= 0 {
			continue
		}
		s.mu.Lock()
		if e := entries[i]; e.granted != 0 && e.granted == e.token {
			tasks[i].State, tasks[i].Token = outbox.InFlight, e.token
			tasks[i].Attempt = e.sched.attempts + 1
		}
		s.mu.Unlock()
	}
}

// abandonLeases gives back what was claimed for a caller that has left.
func (s *Store) abandonLeases(entries []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if e.granted != 0 && e.granted == e.token {
			s.giveBack(e, e.sched.due)
		}
		e.lease = 0
	}
	s.announceLocked()
}

// admission waits until something new may be accepted: there is room in memory, and none
// is lacking on the disk. One look is enough nearly always.
func (s *Store) admission(ctx context.Context) error {
	s.mu.Lock()
	err, full := s.noRoom, s.full()
	if err == nil {
		err = s.usable()
	}
	s.mu.Unlock()
	if err != nil || !full {
		return err
	}
	return s.makeRoom(ctx)
}

// makeRoom waits until the overlay is below its hard bound (P7).
func (s *Store) makeRoom(ctx context.Context) error {
	var timer *time.Timer
	for stuck := false; ; {
		s.mu.Lock()
		err, full, room := s.usable(), s.full(), s.room
		if err == nil && full {
			err = s.noRoom // no checkpoint will make it
		}
		s.mu.Unlock()
		if err != nil || !full {
			return err
		}
		wake(s.wakeFlush)
		if timer == nil {
			timer = time.NewTimer(roomWait)
			defer timer.Stop()
		}
		select {
		case <-room:
			stuck = false
			timer.Reset(roomWait)
		case <-ctx.Done():
			return fmt.Errorf("bolt: wait for room in memory: %w", ctx.Err())
		case <-timer.C:
			if s.relieving.Load() { // the disk may be slow
				stuck = false
				timer.Reset(roomWait)
				continue
			}
			if stuck {
				return fmt.Errorf("%w: memory is full of tasks that must move to the database, and another transaction holds its writer lock", outbox.ErrFull)
			}
			stuck = true // unless the first look came between two steps of the background
			timer.Reset(roomWait / 4)
		}
	}
}
