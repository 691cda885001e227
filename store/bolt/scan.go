package bolt

import (
	"bytes"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
)

// queueScan is the part of a refill that is about one queue.
type queueScan struct {
	name   queueName
	prefix []byte
	taken  int

	floor, roof, top, above spot // of the queue; afterwards, what they are to be
}

// scanDue reads what is due in the queues that are wanted. Tasks with a key may have an
// older one in front of them, so their lanes are looked up as well.
func (r *refillResult) scanDue(b buckets) {
	l := &placeCursor{c: b.due.Cursor()}
	defer func() { r.bad = append(r.bad, l.bad...) }()
	for i := range r.scans {
		if i > 0 && r.full() {
			r.scans = r.scans[:i]
			return
		}
		if r.newest {
			r.scanNewest(b, l, &r.scans[i])
		} else {
			r.scanOldest(b, l, &r.scans[i])
		}
		if r.broken != nil {
			return
		}
	}
}

func (r *refillResult) full() bool { return len(r.found) >= refillEntries || r.bytes >= refillBytes }

// scanOldest reads a queue from its floor on.
func (r *refillResult) scanOldest(b buckets, l *placeCursor, q *queueScan) {
	for l.seek(place{q.name, q.floor}.key()); l.k != nil; l.next() {
		p, here, end := r.spotIn(q, l)
		if end {
			break
		}
		if !here {
			continue
		}
		if p.when > r.now || r.enough(q) {
			q.floor = p
			return
		}
		r.take(b, q, p)
	}
	r.broken, q.floor = l.err, spotEnd
}

// scanNewest reads what is due of a queue backwards, from its roof or, if more may have
// become due since, from there. Of that it reads what memory does not know already.
func (r *refillResult) scanNewest(b buckets, l *placeCursor, q *queueScan) {
	known, from := queueScan{}, q.roof
	unseen := q.above.when <= r.now || q.roof.when > r.now
	if unseen {
		known, from = *q, spot{r.now, maxID}
	}
	at := place{q.name, from}.key()
	if unseen {
		q.top, q.above = from, r.firstFrom(l, q, at)
		if r.broken = l.err; r.broken != nil {
			return
		}
	}
	for l.seekBack(at); l.k != nil; l.prev() {
		p, here, end := r.spotIn(q, l)
		switch {
		case end:
			q.roof = spotStart
			return
		case !here:
			continue
		case unseen && known.roof.before(p) && !known.top.before(p):
			q.roof = known.roof
			return
		case r.enough(q):
			q.roof = p
			return
		}
		r.take(b, q, p)
	}
	r.broken, q.roof = l.err, spotStart
}

// firstFrom returns the first spot of a queue from a place on.
func (r *refillResult) firstFrom(l *placeCursor, q *queueScan, at []byte) spot {
	for l.seek(at); l.k != nil; l.next() {
		p, here, end := r.spotIn(q, l)
		if here {
			return p
		}
		if end {
			break
		}
	}
	return spotEnd
}

// spotIn reads where a cursor stands. It is here if that is in the queue, and at the
// end if it is in another one. A key that is no place is noted, and passed over (P11).
func (r *refillResult) spotIn(q *queueScan, l *placeCursor) (p spot, here, end bool) {
	r.places++
	if _, here = spotIn(q.prefix, l.k); here {
		return l.spot(), true, false
	}
	if _, end = placeOf(l.k); !end {
		r.bad = append(r.bad, fmt.Errorf("%w: place of %d bytes in the due bucket", outbox.ErrCorrupt, len(l.k)))
	}
	return p, false, end
}

// enough reports whether so much was read that nothing more of a queue is. Something is,
// or a claim would ask for ever.
func (r *refillResult) enough(q *queueScan) bool {
	return q.taken > 0 && (q.taken >= r.each || r.full())
}

// take reads the task that is listed at p.
func (r *refillResult) take(b buckets, q *queueScan, p spot) {
	q.taken++
	l := r.load(b, p.id)
	if l == nil {
		return
	}
	if l.bad == nil && l.header.queue != q.name {
		r.bad = append(r.bad, fmt.Errorf("%w: task %s is listed in a queue that is not its own", outbox.ErrCorrupt, p.id))
	}
	l.listed = p.when
	r.found = append(r.found, l)
	if key := l.header.key; key != "" && !r.keys[key] {
		r.keys[key] = true
		r.lanes = append(r.lanes, laneLookup{key: key})
	}
}

// merge notes how far a queue was read.
func (q *queueScan) merge(o *overlay, newest bool) {
	in := o.queue(q.name)
	if newest {
		in.passedNewest(q.roof, q.top, q.above)
	} else {
		in.passed(q.floor)
	}
	o.dropIfIdle(in)
}

// findQueues finds out which queues the database has, and where each begins: a seek for
// each, however much waits in them (P8). A page that is damaged must not keep a store
// from opening; the next claim that reads it says so.
func (s *Store) findQueues(b buckets) (first []place, garbled bool, err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	c := b.due.Cursor()
	var up climb
	for k, _ := c.First(); k != nil; {
		if err := up.to(k, bucketDue); err != nil {
			return nil, false, err
		}
		p, ok := placeOf(k)
		if !ok {
			garbled = true // see reindex
			k, _ = c.Next()
			continue
		}
		first = append(first, p)
		end := place{p.queue, spotEnd}.key()
		if k, _ = c.Seek(end); bytes.Equal(k, end) {
			k, _ = c.Next()
		}
	}
	return first, garbled, nil
}

// foundQueues notes what findQueues has found. mu is held.
func (s *Store) foundQueues(first []place, garbled bool, err error) {
	s.unlisted = err != nil
	if garbled {
		s.disorder(fmt.Errorf("%w: a place in the due bucket that is none", outbox.ErrCorrupt))
	}
	for _, p := range first {
		s.overlay.queue(p.queue).lookAll(p.spot)
	}
}
