package bolt

import (
	"cmp"
	"slices"
)

// source is a queue as one claim sees it.
type source struct {
	*queue
	slot     int // in its line; -1 = not there
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

func (l line) Len() int { return len(l) }
func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].slot, l[j].slot = i, j
}
func (l line) Less(i, j int) bool {
	if l[i].newest {
		return l[j].bound.before(l[i].bound)
	}
	return l[i].bound.before(l[j].bound)
}
func (l *line) Push(x any) {
	src := x.(*source)
	src.slot = len(*l)
	*l = append(*l, src)
}
func (l *line) Pop() any {
	last := len(*l) - 1
	x := (*l)[last]
	x.slot = -1
	(*l)[last] = nil
	*l = (*l)[:last]
	return x
}

// filter finds what matches in a queue of many names.
func (c *claim) filter(src *source, now int64) {
	src.later, src.others, src.list = never, 0, nil
	for _, h := range [...]*heap{&src.ready, &src.latest} {
		for _, e := range h.list {
			if c.sift(src, e, now) {
				src.list = append(src.list, e)
			}
		}
	}
	slices.SortFunc(src.list, src.compare)
}

// compare is the order of claiming.
func (src *source) compare(a, b *entry) int {
	if src.newest {
		a, b = b, a
	}
	return cmp.Or(cmp.Compare(a.when, b.when), a.id.Compare(b.id))
}

// admit is filter for one entry more.
func (c *claim) admit(src *source, e *entry, now int64) {
	if c.sift(src, e, now) {
		i, _ := slices.BinarySearchFunc(src.list, e, src.compare)
		src.list = slices.Insert(src.list, i, e)
	}
}

// sift reports whether an entry belongs in the list, and counts it otherwise.
func (c *claim) sift(src *source, e *entry, now int64) bool {
	switch matches := c.match(nameIn(e.raw)); {
	case !matches && e.when <= now:
		src.others++
	case !matches:
	case e.when > now:
		src.later = min(src.later, e.when)
	default:
		return true
	}
	return false
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
