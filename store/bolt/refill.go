package bolt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// refill brings into memory what the database has to claim next: the first tasks of the
// queues that are wanted, from their floors on, or the last ones that are due, and the
// heads of the lanes that ask for theirs. It reads a bounded number of tasks, whatever
// the database holds (P7). claiming is held, so one refill runs at a time. pick is called
// as soon as memory has what was found.
func (s *Store) refill(want wanted, pick func() error) error {
	var r *refillResult
	return s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		r = s.beginRefill(want)
		if r.unlisted {
			r.first, r.garbled, r.broken = s.findQueues(b)
			return r.broken
		}
		r.scanDue(b)
		r.findKeys(b)
		r.scanLanes(b)
		return r.broken
	}, func() error {
		s.mergeRefill(r)
		return pick()
	})
}

// wanted is what a claim wants to be read.
type wanted struct {
	queues []queueName // the first of them in any case, the others as there is room
	newest bool
	each   int // most tasks of one queue
}

// refillResult is what one look at the database gives.
type refillResult struct {
	s      *Store
	now    int64
	newest bool
	each   int
	scans  []queueScan
	found  []*loaded
	bytes  int             // what was found costs in memory
	keys   map[string]bool // of what was found
	lanes  []laneLookup
	read   int  // so many of lanes were looked up; the others ask again
	whole  bool // all of lanes must be
	places int  // that were looked at

	unlisted bool // the queues have to be found out first
	first    []place
	garbled  bool

	bad []error

	broken error // a page is damaged
}

// laneLookup is what one key has in the database from an ID on.
type laneLookup struct {
	key   string
	lane  *lane // that asked; nil if it was not a lane of memory
	from  outbox.ID
	seen  outbox.ID // everything from from up to this is in found
	found []*loaded

	parker outbox.ID // see findParker
}

// perLane is how many tasks of one key a lookup reads: more than one, so that a
// backlog behind a single key does not cost a look at the database for each.
const perLane = 16

// beginRefill copies what the scans need to know.
func (s *Store) beginRefill(want wanted) *refillResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.overlay
	r := &refillResult{s: s, now: s.clock.now(), newest: want.newest, each: want.each, unlisted: s.unlisted, keys: map[string]bool{}}
	for _, name := range want.queues {
		if q := o.queues[name]; q != nil {
			r.scans = append(r.scans, queueScan{name: name, prefix: name.append(nil), floor: q.floor, roof: q.roof, top: q.top, above: q.above})
		}
	}
	for _, l := range o.lookups[:min(len(o.lookups), refillEntries)] {
		r.lanes = append(r.lanes, laneLookup{key: l.key, lane: l, from: l.seen})
	}
	return r
}

// load reads one task; one that is not there is noted and passed over (P11).
func (r *refillResult) load(b buckets, id outbox.ID) *loaded {
	l := load(b, id)
	if l == nil || l.home != homeTasks {
		r.bad = append(r.bad, fmt.Errorf("%w: task %s is listed, but is not there", outbox.ErrCorrupt, id))
		return nil
	}
	r.bytes += len(l.raw) + l.sched.weight() + entrySize
	return l
}

// forgetFound makes ready to scan the lanes anew.
func (r *refillResult) forgetFound() {
	r.bytes, r.bad = 0, nil
	for i := range r.lanes {
		r.lanes[i].found = nil
	}
}

// scanLanes reads the next tasks of each key that is asked for, until it has read
// enough: what a thousand keys have in front may be large. It reads one key's at
// least, whatever scanDue has found.
func (r *refillResult) scanLanes(b buckets) {
	c := b.keys.Cursor()
	r.bytes, r.read = 0, 0
	for i := range r.lanes {
		if r.bytes >= laneBytes && !r.whole {
			return
		}
		r.read++
		q := &r.lanes[i]
		q.seen = maxID
		if q.parker = r.findParker(b, q.key); r.broken != nil {
			return
		}
		prefix := keyPrefix(q.key)
		up := climb{from: keyPlace(q.key, q.from)}
		for k, _ := c.Seek(up.from); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			if err := up.to(k, bucketKeys); err != nil {
				r.broken = err
				return
			}
			if len(k) != len(prefix)+len(q.from) {
				continue
			}
			id := outbox.ID(k[len(prefix):])
			if n := len(q.found); n == perLane || n > 0 && r.bytes >= laneBytes {
				q.seen = id
				break
			}
			if l := r.load(b, id); l != nil {
				q.found = append(q.found, l)
			}
		}
	}
}

// mergeRefill makes entries of what was found. mu is held.
func (s *Store) mergeRefill(r *refillResult) {
	o := &s.overlay
	if r.unlisted {
		s.foundQueues(r.first, r.garbled, nil)
		return
	}
	o.news.off = true
	defer func() { o.news.off = false }()
	s.tasksRead += int64(len(r.found))
	for _, l := range r.found {
		s.admitLoaded(l)
	}
	for i := range r.scans {
		r.scans[i].merge(o, r.newest)
	}
	s.placesRead += r.places
	for i := range r.lanes[:r.read] {
		q := &r.lanes[i]
		if q.lane != nil {
			o.unask(q.lane)
		}
		s.tasksRead += int64(len(q.found))
		for _, l := range q.found {
			s.admitLoaded(l)
		}
		l := o.lane(q.key)
		if o.parksStill(q.parker) { // else it is looked up once more
			l.parker = q.parker
			if q.from.Compare(l.seen) <= 0 && q.seen.Compare(l.seen) > 0 {
				l.seen = q.seen
			}
		}
		o.advance(l)
	}
	if len(r.bad) > 0 {
		s.disorder(errors.Join(r.bad...))
	}
}

// disorder has the indexes be made anew. mu is held.
func (s *Store) disorder(err error) {
	if s.disordered {
		return
	}
	s.disordered = true
	wake(s.wakeFlush)
	s.opts.logger.Error("outbox: the database's indexes are damaged, and will be made anew", "store", s.dir, "error", err)
}
