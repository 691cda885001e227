package bolt

import (
	"cmp"
	order "container/heap"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// pickLocked takes tasks that are due until it has enough, or until the database
// must be asked. mu is held.
func (c *claim) pickLocked(from scope) (need, error) {
	s, o := c.s, &c.s.overlay
	now := s.clock.now()
	s.endLeases(now)
	if from == all && (len(o.lookups) > 0 || s.unlisted) && len(c.picked) < c.max {
		c.wants = c.wants[:0]
		return needRefill, nil
	}
	c.gather(now, from)
	for {
		if len(c.picked) >= c.max {
			c.nextIn = 0
			return needNothing, nil
		}
		if from == all && len(o.lookups) > 0 {
			c.wants = c.wants[:0]
			return needRefill, nil
		}
		src := c.turn()
		if src == nil {
			if c.tells() {
				return needTell, nil
			}
			return c.none(now, from), nil
		}
		if from == inLine && src.asks(now) {
			return needNothing, nil
		}
		if from < inLine && src.asks(now) {
			c.want(src, now)
			return needRefill, nil
		}
		e := src.head
		if reason, drop := e.unwanted(now); drop {
			if err := s.recordLocked([]decided{{e, s.dropOf(e, reason)}}); err != nil {
				return needNothing, err
			}
			if e.key == "" {
				c.moved(src, now, from)
			} else {
				c.gather(now, from) // the next of its key may be in any queue
			}
			continue
		}
		if o.parked(e) {
			if err := s.bury(e, now); err != nil {
				return needNothing, err
			}
			c.gather(now, from)
			continue
		}
		if c.tells() { // now that all that has expired before e is dropped
			return needTell, nil
		}
		if c.maxBytes > 0 && len(c.picked) > 0 && c.bytes+int64(e.payload) > c.maxBytes {
			c.nextIn = 0
			return needNothing, nil
		}
		c.bytes += int64(e.payload)
		s.take(e, now, c.lease)
		s.turns++
		c.picked = append(c.picked, e)
		c.moved(src, now, from)
	}
}

// none ends a claim that has found no more.
func (c *claim) none(now int64, from scope) need {
	s := c.s
	if from == known && len(s.overlay.lookups) > 0 {
		c.wants = c.wants[:0]
		return needRefill
	}
	c.nextIn = c.untilNext(now)
	if len(c.picked) == 0 && s.retrying > 0 && s.retryDue <= now {
		// What is due has failed a moment ago; the background would make that
		// durable a little later.
		return needSync
	}
	return needNothing
}

// source is a queue as one claim sees it.
type source struct {
	*queue
	newest   bool
	head     *entry   // the first that is due, in memory
	bound    spot     // nothing that is due comes before it
	filtered bool     // the queue has tasks that do not match:
	list     []*entry // of those in memory, what matches and is due, in the order of claiming;
	later    int64    // when the next that matches is due,
	others   int      // and how many are due that do not match
}

// crowdAhead is how many tasks that do not match are looked at in a queue of many names
// before a claim gives up.
const crowdAhead = 1024

// line is the queues of one class that may have something due, a heap.
type line []*source

func (l line) Len() int      { return len(l) }
func (l line) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l line) Less(i, j int) bool {
	if l[i].newest {
		return l[j].bound.before(l[i].bound)
	}
	return l[i].bound.before(l[j].bound)
}
func (l *line) Push(x any) { *l = append(*l, x.(*source)) }
func (l *line) Pop() any {
	last := len(*l) - 1
	x := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return x
}

// gathered is what a claim knows of the queues. A store keeps the arrays from claim to
// claim.
type gathered struct {
	sources []source    // the queues that match,
	lines   [3]line     // those of them that may have something due, by class, Low first
	wants   []queueName // what must be read
}

// forget lets go of what the arrays refer to.
func (g *gathered) forget() {
	clear(g.sources[:cap(g.sources)])
	for _, l := range g.lines {
		clear(l[:cap(l)])
	}
	clear(g.wants[:cap(g.wants)])
}

// gather finds the queues that match, and puts those into line that may have something
// due. It asks Match once for each queue. mu is held.
func (c *claim) gather(now int64, from scope) {
	c.sources = c.sources[:0]
	for i := range c.lines {
		c.lines[i] = c.lines[i][:0]
	}
	for _, q := range c.s.overlay.queues {
		src := source{queue: q, newest: c.newest}
		if c.match != nil {
			if src.filtered = q.name.mixed(); !src.filtered && !c.match(q.name.name) {
				continue
			}
		}
		if src.filtered {
			c.filter(&src, now)
		}
		c.sources = append(c.sources, src)
	}
	for i := range c.sources { // which does not move any more
		src := &c.sources[i]
		if src.offers(now, from) {
			l := c.line(src)
			*l = append(*l, src)
		}
	}
	for i := range c.lines {
		order.Init(&c.lines[i])
	}
}

func (c *claim) line(src *source) *line { return &c.lines[src.name.class-outbox.Low] }

// filter finds what matches in a queue of many names.
func (c *claim) filter(src *source, now int64) {
	src.later, src.others, src.list = never, 0, nil
	for _, h := range [...]*heap{&src.ready, &src.latest} {
		for _, e := range h.list {
			switch matches := c.match(nameIn(e.raw)); {
			case !matches && e.when <= now:
				src.others++
			case !matches:
			case e.when > now:
				src.later = min(src.later, e.when)
			default:
				src.list = append(src.list, e)
			}
		}
	}
	slices.SortFunc(src.list, func(a, b *entry) int {
		if src.newest {
			a, b = b, a
		}
		return cmp.Or(cmp.Compare(a.when, b.when), a.id.Compare(b.id))
	})
}

// offers finds out what a queue has to offer, and reports whether it is anything.
func (src *source) offers(now int64, from scope) bool {
	if src.filtered {
		for len(src.list) > 0 && src.list[0].at < 0 {
			src.list = src.list[1:]
		}
		if src.head = nil; len(src.list) > 0 {
			src.head = src.list[0]
		}
	} else {
		src.head = src.queue.head(now, src.newest)
	}
	any := src.head != nil
	if any {
		src.bound = src.head.spot()
	}
	if from == onHand || !src.asks(now) {
		return any
	}
	switch { // what is to be read comes first
	case !src.newest:
		src.bound = src.floor
	case src.unseen(now):
		src.bound = spot{now, maxID}
	default:
		src.bound = src.roof
	}
	return true
}

// asks reports whether the database has to be asked before the head can be taken.
func (src *source) asks(now int64) bool {
	if src.filtered && src.others >= crowdAhead {
		return false
	}
	return src.queue.mustLook(now, src.head, src.newest)
}

// turn returns the source whose turn it is, nil if nothing is due. See outbox.Turn.
func (c *claim) turn() *source {
	for _, class := range outbox.Turn(c.s.turns) {
		if l := c.lines[class-outbox.Low]; len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

// moved puts the first source of a line where it belongs by now.
func (c *claim) moved(src *source, now int64, from scope) {
	l := c.line(src)
	if src.offers(now, from) {
		order.Fix(l, 0)
	} else {
		order.Pop(l)
	}
}

// want notes that a queue has to be read, and others of its class with it as there is
// room.
func (c *claim) want(src *source, now int64) {
	c.wants = append(c.wants[:0], src.name)
	for _, other := range *c.line(src) {
		if len(c.wants) == wantAtOnce {
			break
		}
		if other != src && other.asks(now) {
			c.wants = append(c.wants, other.name)
		}
	}
}

// wantAtOnce is how many queues are read in one look at the database.
const wantAtOnce = 64

// wanted is what the next refill has to read. The more queues there are, the less is read
// ahead of each, or memory would be full of what is not claimed before long (P7).
func (c *claim) wanted() wanted {
	return wanted{queues: c.wants, newest: c.newest, each: min(refillEntries, max(queueAhead/max(len(c.sources), 1), 4))}
}

// untilNext returns how long until another task may be claimable that matches. mu is held.
func (c *claim) untilNext(now int64) time.Duration {
	next := never
	soon := func(when int64) {
		if when > now {
			next = min(next, when)
		}
	}
	for i := range c.sources {
		soon(c.sources[i].next())
	}
	if e := c.s.overlay.leases.top(); e != nil {
		next = min(next, e.leaseEnd)
	}
	if next == never {
		return outbox.Forever
	}
	return time.Duration(max(next-now, 1))
}

// next returns when something of a queue becomes due of which nothing is.
func (src *source) next() int64 {
	next := src.floor.when
	if src.newest {
		next = src.above.when
	}
	switch {
	case src.filtered:
		next = min(next, src.later)
	case len(src.ready.list) > 0:
		next = min(next, src.ready.top().when)
	}
	return next
}
