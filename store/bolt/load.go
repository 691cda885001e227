package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// loaded is a task read from the database. Nothing in it aliases the
// transaction.
type loaded struct {
	header header
	raw    []byte
	sched  schedule
	home   home
	reason outbox.Reason
	stale  bool  // a newer task holds its LatestOnly key
	listed int64 // the time under which the database lists it, as far as is known; 0 = its schedule says
	reset  error // why its schedule is not the one that it had

	// Of a damaged one: why, where its value was that raw holds, whole, and whether it is
	// not known where it stands in the indexes. See damaged.go.
	bad    error
	from   home
	unsure bool
}

// load reads a task, waiting or dead; nil if the database has none with that ID.
func load(b buckets, id outbox.ID) *loaded {
	if v := b.tasks.Get(id[:]); v != nil {
		return loadWaiting(b, id, v)
	}
	if v := b.dead.Get(id[:]); v != nil {
		return loadDead(b, id, v)
	}
	if b.damaged != nil {
		if v := b.damaged.Get(id[:]); v != nil {
			return loadDamaged(id, v)
		}
	}
	return nil
}

// loadWaiting reads a value of the tasks bucket and what belongs to it.
func loadWaiting(b buckets, id outbox.ID, v []byte) *loaded {
	l := &loaded{home: homeTasks}
	raw, err := checkCRC(id[:], v)
	if err == nil {
		l.raw = append([]byte(nil), raw...)
		l.header, err = decodeHeader(l.raw)
	}
	if err != nil {
		return l.spoilt(b, id, v, err)
	}
	l.sched = schedule{due: l.header.due}
	s, err := loadSchedule(b, id)
	switch {
	case err != nil:
		l.reset = err
	case s != nil:
		l.sched = *s
	}
	l.stale = b.newer(&l.header) != nil
	return l
}

// loadSchedule reads a value of the retries bucket, nil if there is none.
func loadSchedule(b buckets, id outbox.ID) (*schedule, error) {
	v := b.retries.Get(id[:])
	if v == nil {
		return nil, nil
	}
	value, err := checkCRC(id[:], v)
	if err != nil {
		return nil, fmt.Errorf("schedule of task %s: %w", id, err)
	}
	r := reader{b: value}
	s := r.schedule()
	if r.bad || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: schedule of task %s", outbox.ErrCorrupt, id)
	}
	return &s, nil
}

// appendDead is the value of the dead bucket: u32 length and the task, its
// schedule, the reason.
func appendDead(b, raw []byte, s *schedule, reason outbox.Reason) []byte {
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(raw))), raw...)
	return appendText(appendSchedule(b, s), string(reason))
}

// loadDead reads a value of the dead bucket.
func loadDead(b buckets, id outbox.ID, v []byte) *loaded {
	l := &loaded{home: homeDead}
	value, err := checkCRC(id[:], v)
	if err != nil {
		return l.spoilt(b, id, v, err)
	}
	r := reader{b: value}
	raw := r.take(int(r.uint32()))
	l.raw, l.sched, l.reason = append([]byte(nil), raw...), r.schedule(), outbox.Reason(r.bytes())
	if r.bad || len(r.b) != 0 {
		return l.spoilt(b, id, v, fmt.Errorf("%w: lengths do not add up", outbox.ErrCorrupt))
	}
	if l.header, err = decodeHeader(l.raw); err != nil {
		return l.spoilt(b, id, v, err)
	}
	return l
}

// loadHolders reads the tasks that hold the IDs, Unique and LatestOnly keys of
// new ones, and until when a Unique key is taken after a delivery.
func (s *Store) loadHolders(b buckets, entries []*entry) (found []*loaded) {
	take := func(id []byte) {
		if len(id) == len(outbox.ID{}) {
			if l := load(b, outbox.ID(id)); l != nil {
				found = append(found, l)
			}
		}
	}
	for _, e := range entries {
		take(e.id[:])
		if e.unique != "" {
			take(b.sole.Get(uniquePlace(e.unique)))
			e.taken = s.spentUntil(b, e.unique)
		}
		if e.latest != "" {
			take(b.sole.Get(latestPlace(e.latest)))
		}
	}
	return found
}

// admitLoaded makes a task of the database an entry, unless it is one already: in
// that case memory knows better. mu is held, and no commit has come between the
// reading and now.
func (s *Store) admitLoaded(l *loaded) *entry {
	if e := s.overlay.entries[l.header.id]; e != nil {
		return e
	}
	if g := s.groups[l.header.id]; g != nil {
		s.commitGroup(g) // what a reader sees was committed
	}
	if l.bad != nil {
		return s.admitDamaged(l)
	}
	if l.reset != nil {
		s.opts.logger.Error("outbox: the schedule of a task is damaged: it starts anew", "store", s.dir, "error", l.reset)
	}
	e := newEntry(l.header, l.raw)
	e.sched = l.sched
	e.dueAt(l.sched.due)
	e.home, e.homeWhen, e.reason, e.charged = l.home, e.when, l.reason, l.home
	if l.listed != 0 {
		e.homeWhen = l.listed
	}
	e.stale = l.stale || l.sched.stale
	e.phase = idle
	s.overlay.admit(e)
	if l.home == homeDead {
		e.state = outbox.Dead
		if s.live && e.parksFor(e.reason) {
			s.overlay.park(e)
		}
		return e
	}
	if !s.live {
		return e
	}
	s.overlay.holdIfNewest(e)
	s.overlay.enter(e)
	return e
}

// read looks at the database and merges what it found into memory: look runs in a
// read transaction, without mu; merge runs under mu with the transaction still
// open. If the database was written in between, both are done again, so that
// merge never acts on something that has changed. merge may be called only once
// to the end.
//
// The transaction is short and is never held while a publisher or a caller's code
// works (R35).
func (s *Store) read(look func(tx *bbolt.Tx) error, merge func() error) error {
	for {
		s.mu.Lock()
		generation, err := s.generation, s.usable()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		again := false
		err = s.view(func(tx *bbolt.Tx) error {
			if err := look(tx); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if again = s.generation != generation; again {
				return nil
			}
			if err := s.usable(); err != nil {
				return err
			}
			return merge()
		})
		if err != nil || !again {
			return err
		}
	}
}

// view runs f in a read transaction. bbolt panics on damaged pages; that becomes
// an error (R34, P11).
func (s *Store) view(f func(tx *bbolt.Tx) error) (err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	err = s.viewDatabase(f)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return s.closedError() // by Close, or an attached one by its owner
	}
	return err
}
