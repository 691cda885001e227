package bolt

import (
	"cmp"

	"github.com/goutbox/goutbox/outbox"
)

// queueName says in which queue a task waits: that of its class and its event's name,
// so that a claim finds what it wants without a look at the rest, however much of it
// waits. It follows from the task's bytes alone.
//
// Two kinds of queue have no name, and hold tasks of many: what they hold is asked task
// by task whether it matches. One of each class is for the names that came when memory
// had maxQueues of others already: see assign. The other one is that of tasks which a
// store of format 1 or 2 has listed; it drains, and needs no conversion (P8).
type queueName struct {
	class  outbox.Priority
	legacy bool
	name   string
}

// mixed reports whether the queue's tasks have different names.
func (n queueName) mixed() bool { return n.name == "" }

// append appends what the places of the queue begin with. The class comes first, then
// the name with its length, which keeps "a" apart from "ab". The legacy queue has no
// such beginning: its keys are those that they have been, and as they begin with a time,
// which is no number of a class, they come last.
func (n queueName) append(b []byte) []byte {
	if n.legacy {
		return b
	}
	b = append(b, byte(outbox.High-n.class), byte(len(n.name)))
	return append(b, n.name...)
}

// assign returns the queue of a new task: that of its name, unless memory has too many
// others already. An unbounded number of names, one for each device perhaps, would take
// the heap otherwise, and make every claim slow (P7). fresh are the names that this call
// of Create has brought. mu is held.
func (s *Store) assign(name queueName, fresh *map[queueName]bool) queueName {
	switch {
	case len(name.name) > outbox.MaxNameBytes: // it has no place in a key
	case s.overlay.known(name) != nil, (*fresh)[name]:
		return name
	case len(s.overlay.queues)+len(s.groups)+len(*fresh) < s.opts.maxQueues:
		if *fresh == nil {
			*fresh = map[queueName]bool{}
		}
		(*fresh)[name] = true
		return name
	}
	return queueName{class: name.class}
}

// maxQueues is how many queues are in memory before new names have to share one. A queue
// of which nothing waits is not in memory.
const maxQueues = 4096

// queue is what memory has of one queue. It is in memory if a task of it is, or if the
// database may list one.
type queue struct {
	name  queueName
	tasks int // in memory, whatever is happening to them

	src  *source // of the claim that is at work, if it matches
	news bool    // it is in overlay.news

	ready  heap // what may be claimed, once it is due
	latest heap // what of it was due when a claim last took the newest first

	thinned bool // it is in overlay.thinned

	floor spot // where the next refill begins: see I3

	// The same from the other end, for claims that take the newest first: all that is
	// listed behind roof, up to and with top, is in memory, and what is listed behind
	// top is not before above.
	roof, top, above spot
}

// newQueue returns a queue of which the database lists nothing.
func newQueue(name queueName) *queue {
	return &queue{name: name, ready: newReady(), latest: newLatest(), floor: spotEnd, roof: spotStart, top: spotEnd, above: spotEnd}
}

// known returns the queue of that name, or nil. The last one is likely to be asked for
// again.
func (o *overlay) known(name queueName) *queue {
	if q := o.recent; q != nil && q.name == name {
		return q
	}
	q := o.queues[name]
	if q != nil {
		o.recent = q
	}
	return q
}

// queue returns the queue of that name.
func (o *overlay) queue(name queueName) *queue {
	q := o.known(name)
	if q == nil {
		q = newQueue(name)
		o.queues[name], o.recent = q, q
	}
	return q
}

// dropIfIdle takes a queue out of memory that has nothing.
func (o *overlay) dropIfIdle(q *queue) {
	if q.tasks == 0 && q.floor == spotEnd {
		delete(o.queues, q.name)
		o.recent = nil
	}
}

// push makes an entry claimable in its turn.
func (q *queue) push(e *entry) { q.ready.push(e) }

// remove takes back what push has done.
func (q *queue) remove(e *entry) {
	if e.late {
		q.latest.remove(e)
		e.late = false
		return
	}
	q.ready.remove(e)
}

// look notes that the database lists a task here which may not be in memory.
func (q *queue) look(p spot) {
	if p.before(q.floor) {
		q.floor = p
	}
	switch {
	case !q.top.before(p):
		if q.roof.before(p) {
			q.roof = p
		}
	case p.before(q.above):
		q.above = p
	}
}

// lookAll notes that nothing is known of what the database lists.
func (q *queue) lookAll(from spot) {
	q.floor, q.roof, q.top, q.above = from, spotStart, spotStart, from
}

// passed notes that memory has all that the database lists in front of floor.
func (q *queue) passed(floor spot) {
	q.floor = floor
	if floor == spotEnd {
		q.roof, q.top, q.above = spotStart, spotEnd, spotEnd
	}
}

// passedNewest notes that memory has all that is listed behind roof, up to and with top,
// and that nothing is between top and above.
func (q *queue) passedNewest(roof, top, above spot) {
	q.roof, q.top, q.above = roof, top, above
	if roof == spotStart && q.floor.before(above) {
		q.floor = above
	}
}

// head returns the first entry that is due by the time to look at it, nil if none is.
func (q *queue) head(now int64, newest bool) *entry {
	if newest {
		for e := q.ready.top(); e != nil && e.when <= now; e = q.ready.top() {
			q.ready.remove(e)
			q.latest.push(e)
			e.late = true
		}
		return q.latest.top()
	}
	for e := q.latest.top(); e != nil; e = q.latest.top() { // a claim of the other kind has come between
		q.remove(e)
		q.ready.push(e)
	}
	if e := q.ready.top(); e != nil && e.when <= now {
		return e
	}
	return nil
}

// mustLook reports whether the database may have a task that is due and comes before e,
// the first in memory, or nil.
func (q *queue) mustLook(now int64, e *entry, newest bool) bool {
	switch {
	case !newest:
		return q.floor.when <= now && (e == nil || q.floor.before(e.spot()))
	case q.unseen(now):
		return true
	}
	return q.roof != spotStart && (e == nil || !q.roof.before(e.spot()))
}

// unseen reports whether tasks that memory does not know may have become due since the
// last look at the newest.
func (q *queue) unseen(now int64) bool { return q.above.when <= now || q.roof.when > now }

// spot is where a task stands in its queue: by the time it has to be looked at, then by
// ID.
type spot struct {
	when int64
	id   outbox.ID
}

// spotStart is in front of all others, spotEnd behind them.
var (
	spotStart = spot{when: -never}
	spotEnd   = spot{never, maxID}
)

func (p spot) before(q spot) bool {
	return p.when < q.when || p.when == q.when && p.id.Compare(q.id) < 0
}

// compare is before as a sort wants it.
func (p spot) compare(q spot) int { return cmp.Or(cmp.Compare(p.when, q.when), p.id.Compare(q.id)) }

func (e *entry) spot() spot { return spot{e.when, e.id} }
