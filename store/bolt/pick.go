package bolt

import (
	order "container/heap"
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
	for ended := 0; ; {
		if ended == endsAtOnce {
			return needPause, nil
		}
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
		e, l := src.head, src.head.lane
		if reason, drop := e.unwanted(now); drop {
			if err := s.recordLocked([]decided{{e, s.dropOf(e, reason)}}); err != nil {
				return needNothing, err
			}
			ended++
			c.ended(src, l, now, from)
			continue
		}
		if o.parked(e) {
			if err := s.bury(e, now); err != nil {
				return needNothing, err
			}
			ended++
			c.ended(src, l, now, from)
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

// endsAtOnce is how many tasks that are not to be delivered a claim ends before it lets
// others have mu, and looks whether its context has ended.
const endsAtOnce = 256

// gathered is what a claim knows of the queues. A store keeps the arrays from claim to
// claim.
type gathered struct {
	sources []source    // the queues that match,
	lines   [3]line     // those of them that may have something due, by class, Low first
	wants   []queueName // what must be read
	looks   int         // how often a queue was asked what it has to offer, ever
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
		q.src = nil
		src := source{queue: q, newest: c.newest, slot: -1}
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
		src.queue.src = src
		if c.offers(src, now, from) {
			c.line(src).Push(src)
		}
	}
	for i := range c.lines {
		order.Init(&c.lines[i])
	}
}

func (c *claim) line(src *source) *line { return &c.lines[src.name.class-outbox.Low] }

// turn returns the source whose turn it is, nil if nothing is due. See outbox.Turn.
func (c *claim) turn() *source {
	for _, class := range outbox.Turn(c.s.turns) {
		if l := c.lines[class-outbox.Low]; len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

// offers is that of the source, counted.
func (c *claim) offers(src *source, now int64, from scope) bool {
	c.looks++
	return src.offers(now, from)
}

// moved puts a source where it belongs by now.
func (c *claim) moved(src *source, now int64, from scope) {
	l := c.line(src)
	switch offers := c.offers(src, now, from); {
	case offers && src.slot >= 0:
		order.Fix(l, src.slot)
	case offers:
		order.Push(l, src)
	case src.slot >= 0:
		order.Remove(l, src.slot)
	}
}

// ended follows the end of the head of a source, or its being put off, which was the head
// of a lane too if that is not nil. Nothing else has changed but the queue in which the
// next of the key waits. All queues were looked at for every head once, under mu, and
// thousands that had expired in as many queues took seconds. mu is held.
func (c *claim) ended(src *source, l *lane, now int64, from scope) {
	if src.filtered {
		src.list = src.list[1:]
	}
	c.moved(src, now, from)
	if l == nil || len(l.waiting) == 0 || l.waiting[0].at < 0 {
		return // it has no other, or memory does not know it
	}
	next := l.waiting[0]
	src = next.in.src
	if src == nil {
		return // it does not match
	}
	if src.filtered {
		c.admit(src, next, now)
	}
	c.moved(src, now, from)
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
