package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// Audit is what [Store.Audit] found: what the ledger says, what is there, and every
// place where the store disagrees with itself.
type Audit struct {
	// Ledger holds the counters of P5 as the log's records have changed them, and
	// nothing else of Stats.
	Ledger outbox.Stats

	Waiting  uint64 // tasks that wait, counted one by one, those in flight included
	InFlight uint64 // of these
	Dead     uint64 // dead letters, counted one by one
	InMemory int    // tasks that were in memory, whether or not the database has them too

	// Findings has a sentence for each disagreement, the first hundred of them; it
	// is nil if there is none. More counts the others.
	Findings []string
	More     int
}

// maxFindings bounds what an audit of a wrecked store collects (P7).
const maxFindings = 100

// Audit recounts the store and compares the result with its counters (P5), and
// each index of the database with the tasks that it points to. All is of one
// moment, that of the call, after it has made durable what was settled before. If
// anything disagrees, the error is [outbox.ErrCorrupt] and the result says what.
// Nothing is changed.
//
// It reads the whole database, in one read transaction, which takes seconds
// for a million tasks; memory does not depend on how many there are (P7). Accepting and
// delivering go on meanwhile, but the database reuses no space, and a checkpoint
// that has to grow the file's map waits. Audit waits for a checkpoint that runs,
// so do not call it within a transaction of one's own.
func (s *Store) Audit(ctx context.Context) (Audit, error) {
	a := auditor{ctx: ctx}
	if err := ctx.Err(); err != nil {
		return a.Audit, fmt.Errorf("bolt: audit: %w", err)
	}
	if err := s.syncLog(ctx); err != nil {
		return a.Audit, s.translate(err)
	}
	again, err := s.auditOnce(&a)
	for again && err == nil {
		again, err = s.auditOnce(&a)
	}
	switch {
	case err != nil:
		return a.Audit, err
	case len(a.Findings) > 0:
		errs := make([]error, len(a.Findings))
		for i, text := range a.Findings {
			errs[i] = errors.New(text)
		}
		return a.Audit, fmt.Errorf("%w: store %s: audit: %d findings:\n%w", outbox.ErrCorrupt, s.dir, len(a.Findings)+a.More, errors.Join(errs...))
	}
	return a.Audit, nil
}

// auditOnce opens a read transaction, copies what memory says at the same moment,
// and then goes through the database with neither lock nor hurry. A checkpoint is
// in the database a moment before memory knows of it, so none may run while the
// two are matched.
func (s *Store) auditOnce(a *auditor) (again bool, err error) {
	s.flushing.Lock()
	unlock := sync.OnceFunc(s.flushing.Unlock)
	defer unlock()
	s.mu.Lock()
	generation := s.generation
	s.mu.Unlock()
	err = s.view(func(tx *bbolt.Tx) (err error) {
		if a.b, err = openBuckets(tx); err != nil {
			return err
		}
		func() {
			s.mu.Lock()
			defer s.mu.Unlock() // bbolt may panic
			if again = s.generation != generation; !again {
				if err = s.usable(); err == nil {
					s.auditMemory(a)
				}
			}
		}()
		unlock()
		if err != nil || again {
			return err
		}
		return a.database(s.path)
	})
	return again, err
}

// auditor is one audit under way.
type auditor struct {
	Audit
	ctx    context.Context
	b      buckets
	memory map[outbox.ID]remembered
	queues map[queueName]queue // copies, of which the spots count
	base   ledger              // what the database's state has to say
	sum    ledger              // with what the log says since
	state  state               // checkpoint, last ID, clock and gaps by memory
	looked int
	keyed  int // tasks of the database with a key,
	inLine int // and entries of the keys bucket
}

// remembered is what memory says of one task: where it stands, and where the
// database has it.
type remembered struct {
	home     home
	homeWhen int64
	damaged  bool
}

// wrong notes a disagreement.
func (a *auditor) wrong(format string, args ...any) {
	if len(a.Findings) >= maxFindings {
		a.More++
		return
	}
	a.Findings = append(a.Findings, fmt.Sprintf(format, args...))
}

// same compares two numbers that must be one.
func same[T comparable](a *auditor, what string, said, counted T) {
	if said != counted {
		a.wrong("%s: %v by the books, %v counted", what, said, counted)
	}
}

// auditMemory copies what memory says, and checks that it agrees with itself. mu
// is held.
func (s *Store) auditMemory(a *auditor) {
	o := &s.overlay
	for id, g := range s.groups { // what the transaction sees was committed
		if a.b.tasks.Get(id[:]) != nil {
			s.commitGroup(g)
		}
	}
	a.base, a.sum = s.base, s.base
	a.sum.add(s.since, 1)
	a.state = state{checkpoint: s.checkpoint, lastID: s.ids.last, seen: s.moment(), gaps: s.gaps}
	a.memory = make(map[outbox.ID]remembered, len(o.entries))
	a.queues = make(map[queueName]queue, len(o.queues))
	for name, q := range o.queues {
		a.queues[name] = *q
	}
	var bytes int64
	dirty := 0
	for id, e := range o.entries {
		bytes += e.weight()
		if e.dirtyAt != 0 {
			dirty++
		}
		a.entry(id, e)
	}
	a.InMemory = len(o.entries)
	listed := 0
	for e := o.oldest; e != nil; e = e.newer {
		listed++
		if e.newer != nil && e.newer.dirtyAt < e.dirtyAt {
			a.wrong("I1: task %s is before %s in the dirty list, but became dirty after it", e.id, e.newer.id)
		}
	}
	same(a, "tasks in memory that the database does not know", o.dirty, dirty)
	same(a, "length of the dirty list", o.dirty, listed)
	same(a, "bytes in memory", o.bytes, bytes)
	a.claims(o)
	a.parks(o)
	a.holders("Unique", o.unique, o.entries)
	a.holders("LatestOnly", o.latest, o.entries)
	a.inbox(s)
}

// entry counts a task in memory.
func (a *auditor) entry(id outbox.ID, e *entry) {
	a.memory[id] = remembered{e.home, e.homeWhen, e.damaged != homeNone}
	if e.dirtyAt == 0 && e.home == homeNone {
		if e.phase != queued && e.phase != ending {
			a.wrong("I1: task %s is in memory, but neither in the log nor in the database", id)
		}
		return // its record is not durable yet
	}
	switch {
	case e.gone:
	case e.state == outbox.Dead:
		a.Dead++
	default:
		a.Waiting++
		if e.phase == claimed {
			a.InFlight++
		}
		if e.damaged != homeNone {
			break // it waits for nothing but its record
		}
		if e.phase == idle && e.key == "" && e.at < 0 {
			a.wrong("I2: task %s waits, but can not be claimed", id)
		}
		if e.phase == idle && e.key != "" && !e.lane.has(e) {
			a.wrong("I2: task %s waits, but is not in the lane of its key", id)
		}
	}
}

func (l *lane) has(e *entry) bool {
	if l == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(l.waiting, e, func(a, b *entry) int { return a.id.Compare(b.id) })
	return ok
}

// claims checks the leases.
func (a *auditor) claims(o *overlay) {
	var bytes int64
	for _, e := range o.leases.list {
		bytes += e.weight()
		if e.phase != claimed || o.entries[e.id] != e {
			a.wrong("task %s has a lease, but is not claimed", e.id)
		}
	}
	same(a, "bytes of tasks in flight", o.claimed, bytes)
}

// holders checks who holds keys in memory.
func (a *auditor) holders(what string, of map[string]*entry, entries map[outbox.ID]*entry) {
	for key, e := range of {
		if entries[e.id] != e || e.gone && e.spent == 0 {
			a.wrong("%s key %q is held by task %s, which is not there", what, key, e.id)
		}
	}
}

// inbox checks what is promised to Stats for the records that are not durable yet.
func (a *auditor) inbox(s *Store) {
	var coming ledger
	ahead := s.gaps
	retrying := 0
	for i := range s.inbox {
		c := &s.inbox[i]
		if c.op != nil {
			ahead.apply(c.op, true)
		}
		if c.kind != opCreate {
			coming.add(c.effect(), 1)
		}
		if c.kind == opRetry {
			retrying++
		}
	}
	same(a, "effect of records that are not durable yet", s.coming, coming)
	same(a, "gaps, with the records that are not durable yet", s.gapsAhead, ahead)
	same(a, "retries that are not durable yet", s.retrying, retrying)
}
