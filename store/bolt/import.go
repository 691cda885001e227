package bolt

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// Export implements [outbox.Exporter]: as Tasks, page by page, each with what is left of
// delays and times to live when it was read.
func (s *Store) Export(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return s.list(ctx, f, func(t *outbox.Task) { t.SetLeft(wall(s.clock.now())) })
}

// Import implements [outbox.Importer]. The tasks become one group of log records, as those
// of Create do. It waits for a checkpoint if the store has had one of the IDs before, and
// the database does not know yet that it is gone; while the application holds the
// database's writer lock that takes as long as the application does.
//
// A damaged task does not hold its ID: it is deleted, as Delete would, when an intact copy
// of it comes, whatever becomes of the import then.
func (s *Store) Import(ctx context.Context, tasks []outbox.Task) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("bolt: import: %w", err)
	}
	if outbox.TxFrom(ctx) != nil {
		return 0, fmt.Errorf("%w: an import joins none", outbox.ErrTxUnsupported)
	}
	if err := outbox.CheckImport(tasks); err != nil || len(tasks) == 0 {
		return 0, err
	}
	if err := checkKeys(tasks); err != nil {
		return 0, err
	}
	if err := s.admission(ctx); err != nil {
		return 0, err
	}
	im := newImporting(tasks)
	if err := s.opts.tooLarge(totalCost(im.waiting(im.entries))); err != nil {
		return 0, err
	}
	pos, err := s.queueImport(im)
	for errors.Is(err, errForgetting) {
		if err = s.flush(ctx); err == nil {
			pos, err = s.queueImport(im)
		}
	}
	if err == nil {
		if err = s.translate(s.log.Wait(ctx, pos)); err == nil {
			err = s.secureLog(ctx, pos) // at all levels of WithSync: where they come from they will be deleted
		}
	}
	if errors.Is(err, outbox.ErrDiskFull) {
		s.markFull(err)
		wake(s.wakeFlush)
	}
	if err != nil {
		return 0, err
	}
	return len(im.taken), nil
}

// errForgetting is why an import must wait: a task with that ID was here and has ended,
// which the database or even the log has yet to know. It may be one that was moved away and comes back,
// which must not be lost, so it is not passed over.
var errForgetting = errors.New("bolt: a task with that ID has just ended")

// importing is a call of Import.
type importing struct {
	draft
	tasks []outbox.Task
	died  map[*entry]*op // the deaths of the dead
	taken []*entry       // those that are not passed over
}

func newImporting(tasks []outbox.Task) *importing {
	im := &importing{tasks: slices.Clone(tasks), died: map[*entry]*op{}}
	for i := range im.tasks {
		im.tasks[i].Lease = 0
	}
	im.encode(im.tasks)
	for i, e := range im.entries {
		if im.tasks[i].State == outbox.Dead {
			im.died[e] = deathOf(&im.tasks[i])
		}
	}
	return im
}

// deathOf is the operation that makes the task the dead letter that it was elsewhere.
func deathOf(t *outbox.Task) *op {
	if t.Reason == outbox.ReasonKeyParked {
		return &op{kind: opPark, id: t.ID}
	}
	o := &op{kind: opBury, id: t.ID, attempts: t.Attempts, reason: t.Reason}
	if n := len(t.Failures); n > 0 {
		o.failure = t.Failures[n-1] // which the history has already: see schedule.after
	}
	return o
}

// waiting returns those of the entries that are not dead.
func (im *importing) waiting(entries []*entry) (list []*entry) {
	for _, e := range entries {
		if im.died[e] == nil {
			list = append(list, e)
		}
	}
	return list
}

// queueImport queues the records of what is not passed over, all or none.
func (s *Store) queueImport(im *importing) (pos wal.Position, err error) {
	err = s.withKeys(im.entries, func() error {
		s.dateImport(im)
		im.taken = nil
		var wait error // for all at once
		for _, e := range im.entries {
			over, err := s.passesOver(e, im.died[e] != nil)
			switch {
			case errors.Is(err, errForgetting):
				wait = err
			case err != nil:
				return err
			case !over:
				im.taken = append(im.taken, e)
			}
		}
		if wait != nil {
			return wait
		}
		waiting := im.waiting(im.taken)
		replaced := im.replaced[:len(waiting)]
		if err := s.claimKeys(waiting, replaced, true); err != nil {
			return err
		}
		for _, e := range im.taken {
			if im.died[e] != nil {
				s.overlay.admit(e)
			}
		}
		pos = s.log.Next() - 1                                  // what is passed over is to be durable too
		if full := s.shortage(waiting, replaced); full != nil { // whatever the policy: nothing is dropped, and nobody waits
			err = full
		} else if len(im.taken) > 0 {
			pos, err = s.queueTaken(im, replaced)
		}
		if err != nil {
			s.unclaimKeys(im.taken)
		}
		return err
	})
	return pos, s.translate(err)
}

// dateImport is date for tasks that were accepted elsewhere. mu is held.
func (s *Store) dateImport(im *importing) {
	now := s.clock.now()
	var fresh map[queueName]bool
	for i, e := range im.entries {
		t := &im.tasks[i]
		e.prior = nil // of a try that failed
		due := later(now, t.Delay)
		if t.Delay < 0 {
			due = max(now+max(int64(t.Delay), -now), earliest)
		}
		s.enroll(e, t, nanos(t.CreatedAt), now, due, &fresh)
		if o := im.died[e]; o != nil {
			o.clock, o.due = now, e.sched.due
		}
	}
}

// passesOver reports whether a task is not to be imported: it is here already, or has been
// outdated. mu is held.
func (s *Store) passesOver(e *entry, dead bool) (bool, error) {
	if other := s.overlay.entries[e.id]; other != nil {
		if other.gone || other.phase == ending {
			return false, errForgetting
		}
		if other.damaged != homeNone {
			return false, s.giveWay(other)
		}
		return true, nil
	}
	holder := s.overlay.latest[e.latest]
	return !dead && e.latest != "" && holder != nil && holder.id.Compare(e.id) > 0, nil
}

// giveWay ends a damaged task, to which an intact copy comes: passed over, that would be
// deleted where it comes from, and nothing of the task be left. mu is held.
func (s *Store) giveWay(e *entry) error {
	if err := s.recordLocked([]decided{{e, e.deletion()}}); err != nil {
		return err
	}
	s.opts.logger.Info("outbox: a damaged task gives way to an intact copy", "store", s.dir, "id", e.id)
	return errForgetting
}

// queueTaken queues the records. replaced are the tasks whose LatestOnly keys those that
// wait take over, one for each. mu is held.
func (s *Store) queueTaken(im *importing, replaced []*entry) (wal.Position, error) {
	changes := make([]change, 0, len(im.taken))
	records := make([][]byte, 0, len(im.taken))
	for i, e := range im.entries {
		if len(changes) == len(im.taken) || im.taken[len(changes)] != e {
			continue
		}
		c := change{kind: opCreate, e: e, died: im.died[e]}
		if c.died == nil {
			c.replaced, replaced = replaced[0], replaced[1:]
		}
		var old, outdated outbox.ID
		if c.replaced != nil {
			old = c.replaced.id
		} else if c.outdated = e.prior; e.prior != nil {
			outdated = e.prior.id
		}
		changes = append(changes, c)
		records = append(records, sealImport(im.records[i], old, outdated, &e.sched, c.died))
	}
	pos, err := s.log.Queue(records...)
	if err != nil {
		return 0, err
	}
	s.noted = s.clock.now()
	for i := range changes {
		c := &changes[i]
		c.pos = pos - wal.Position(len(changes)-1-i)
		s.ids.saw(c.e.id)
		s.count(int64(len(records[i])))
		s.bookCreate(c)
	}
	s.grantLocked() // one that was replaced gives room
	return pos, nil
}

// bornDead is what the durable record of a dead letter from another store does.
func (s *Store) bornDead(e *entry, died *op) {
	e.phase, e.state, e.reason = idle, outbox.Dead, outbox.ReasonKeyParked
	if died.kind == opBury {
		e.sched, e.reason = e.sched.after(died), died.reason
		s.overlay.weigh(e)
	}
	if e.parksFor(e.reason) {
		s.overlay.park(e)
	}
	s.buried(e)
}
