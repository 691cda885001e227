package bolt

import (
	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// overlay is the upper level of the store: the tasks that are in memory, because
// something happened to them lately or because they are next to be claimed. What
// is not here is in the database, unchanged. The store's mutex guards it.
// It keeps I1 to I4 of the package comment.
type overlay struct {
	entries map[outbox.ID]*entry
	bytes   int64
	queues  map[queueName]*queue
	recent  *queue   // the last one that was asked for, nil if it may be gone
	leases  heap     // what is claimed,
	claimed int64    // and its bytes
	flying  [3]int64 // of what is claimed, how many of each class, Low first
	lanes   map[string]*lane
	lookups []*lane           // lanes in memory whose head must be looked for in the database
	unique  map[string]*entry // who holds a key: it waits, is in flight, or was delivered and is spent
	latest  map[string]*entry
	parks   map[string][]*entry // dead letters that park their key, by key
	news    news

	thinned []*queue // of which evict has marked entries: see sweep

	victims [3]victims // who goes first when a quota is used up, by home

	oldest, newest *entry // the dirty list, in the order of dirtyAt
	dirty          int

	hasKeys bool // the database may hold tasks with a key, or dead letters that park one
}

func newOverlay() overlay {
	return overlay{
		entries: map[outbox.ID]*entry{},
		queues:  map[queueName]*queue{},
		leases:  newLeases(),
		lanes:   map[string]*lane{},
		unique:  map[string]*entry{},
		latest:  map[string]*entry{},
		parks:   map[string][]*entry{},
	}
}

const never = int64(1<<63 - 1)

// admit takes an entry into memory.
func (o *overlay) admit(e *entry) {
	o.entries[e.id] = e
	e.in = o.queue(e.queue)
	e.in.tasks++
	e.queue = e.in.name // one string for all of them
	o.weigh(e)
}

// weigh notes what an entry costs in memory, once more after that has changed (P7).
func (o *overlay) weigh(e *entry) {
	more := e.weight() - e.weighed
	e.weighed += more
	o.bytes += more
	if e.leasedAt >= 0 {
		o.claimed += more
	}
}

// burden notes what an outcome costs until it is durable: its error text is in the
// operation and in the log's buffer. The next weigh ends that.
func (o *overlay) burden(e *entry, outcome *op) {
	n := 3 * int64(len(outcome.failure.Error))
	e.weighed += n
	o.bytes += n
}

// forget takes an entry out of memory. It must be clean, or never have been
// accepted (I1).
func (o *overlay) forget(e *entry) {
	delete(o.entries, e.id)
	e.in.tasks--
	o.dropIfIdle(e.in)
	o.bytes -= e.weighed
	e.weighed = 0
	o.forgetPark(e)
	o.release(e)
	o.letGo(e)
}

// touch notes that the record at pos changed e durably.
func (o *overlay) touch(e *entry, pos wal.Position) {
	e.changes++
	if e.dirtyAt != 0 {
		return
	}
	e.dirtyAt = pos
	o.dirty++
	e.older = o.newest
	if o.newest != nil {
		o.newest.newer = e
	} else {
		o.oldest = e
	}
	o.newest = e
}

// neededFrom returns the first record that only the log has, pos if there is none before.
func (o *overlay) neededFrom(pos wal.Position) wal.Position {
	if o.oldest != nil {
		return min(pos, o.oldest.dirtyAt)
	}
	return pos
}

// clean notes that the database knows all that the log says of e.
func (o *overlay) clean(e *entry) {
	if e.dirtyAt == 0 {
		return
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		o.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		o.newest = e.older
	}
	e.older, e.newer, e.dirtyAt = nil, nil, 0
	o.dirty--
	if e.phase != settling && e.phase != ending {
		o.letGo(e)
	}
}

// letGo ends what keepLane has begun.
func (o *overlay) letGo(e *entry) {
	if l := e.left; l != nil {
		e.left = nil
		l.left--
		o.advance(l)
	}
}

// reserve makes e the holder of its Unique and LatestOnly keys.
func (o *overlay) reserve(e *entry) {
	if e.unique != "" {
		o.unique[e.unique] = e
	}
	if e.latest != "" {
		o.latest[e.latest] = e
	}
}

// holdIfNewest makes e the holder of its keys unless memory has a newer one.
func (o *overlay) holdIfNewest(e *entry) {
	if other := o.unique[e.unique]; e.unique != "" && (other == nil || other.gone) {
		o.unique[e.unique] = e
	}
	if e.latest != "" && !e.stale {
		switch other := o.latest[e.latest]; {
		case other == nil:
			o.latest[e.latest] = e
		case other.id.Compare(e.id) > 0:
			e.stale = true
			other.inheritedBy(e)
		case other != e:
			other.stale = true
			o.latest[e.latest] = e
		}
	}
}

// release gives e's Unique and LatestOnly keys free.
func (o *overlay) release(e *entry) {
	if e.unique != "" && o.unique[e.unique] == e {
		delete(o.unique, e.unique)
	}
	o.yield(e)
}

// lease notes that an entry is claimed.
func (o *overlay) lease(e *entry) {
	o.leases.push(e)
	o.claimed += e.weighed
	o.flying[e.queue.class-outbox.Low]++
}

// unlease notes that a claim has ended.
func (o *overlay) unlease(e *entry) {
	o.leases.remove(e)
	o.claimed -= e.weighed
	o.flying[e.queue.class-outbox.Low]--
}

// over reports whether more tasks are in memory than so many, or more bytes. Those
// that are claimed do not count: no checkpoint could make them leave, and whoever
// claims bounds how much.
func (o *overlay) over(entries int, bytes int64) bool {
	return len(o.entries)-len(o.leases.list) > entries || o.bytes-o.claimed > bytes
}

// enter makes an idle waiting entry claimable in its turn (I2).
func (o *overlay) enter(e *entry) {
	if !e.kept(homeTasks) {
		o.victims[homeTasks].saw(e.id)
	}
	if e.key == "" {
		o.offer(e)
		return
	}
	l := o.lane(e.key)
	e.lane = l
	if l.busy == e {
		l.busy = nil
	}
	l.add(e)
	if l.waiting[0] == e && len(l.waiting) > 1 && l.waiting[1].at >= 0 {
		l.waiting[1].in.remove(l.waiting[1]) // it came before the head
	}
	o.advance(l)
}

// offer lets claims see an entry.
func (o *overlay) offer(e *entry) {
	e.in.push(e)
	o.news.waits(e)
}

// leave takes an entry out of ready and out of its lane: it is claimed, or about
// to end, or about to leave memory.
func (o *overlay) leave(e *entry) {
	if e.at >= 0 {
		e.in.remove(e)
	}
	if l := e.lane; l != nil && l.busy != e {
		l.remove(e)
	}
}

// depart ends e's part in its lane, and lets the next of the key come forward.
func (o *overlay) depart(e *entry) {
	o.leave(e)
	if l := e.lane; l != nil {
		if l.busy == e {
			l.busy = nil
		}
		e.lane = nil
		o.advance(l)
	}
}

// lane returns the lane of a key, which begins knowing nothing of the database
// unless that has no keys at all.
func (o *overlay) lane(key string) *lane {
	l := o.lanes[key]
	if l == nil {
		l = &lane{key: key}
		if !o.hasKeys {
			l.seen = maxID
		}
		o.lanes[key] = l
	}
	return l
}

// advance brings the head of a lane forward, or asks for it to be looked up.
func (o *overlay) advance(l *lane) {
	switch {
	case l.busy != nil:
	case len(l.waiting) > 0 && l.waiting[0].id.Compare(l.seen) < 0:
		if head := l.waiting[0]; head.at < 0 {
			o.offer(head)
		}
	case len(l.waiting) == 0 && l.left == 0:
		o.dropLane(l) // the database, if it has more of the key, lists its head
	case l.seen != maxID:
		o.ask(l)
	}
}

// keepLane keeps the lane of e's key in memory, with what it knows of the database.
// An entry whose end is in the log does that until a checkpoint has written it: so
// long the database lists it as the head, and only the lane knows where the key
// goes on.
func (o *overlay) keepLane(e *entry) {
	if e.key != "" && e.left == nil {
		e.left = o.lane(e.key)
		e.left.left++
	}
}

// ask has the next refill look for a lane's head in the database.
func (o *overlay) ask(l *lane) {
	if l.asked == 0 {
		o.lookups = append(o.lookups, l)
		l.asked = len(o.lookups)
		o.news.unknown()
	}
}

// unask ends what ask has begun.
func (o *overlay) unask(l *lane) {
	if l.asked == 0 {
		return
	}
	last := len(o.lookups) - 1
	moved := o.lookups[last]
	o.lookups[l.asked-1], moved.asked = moved, l.asked
	o.lookups[last] = nil
	o.lookups, l.asked = o.lookups[:last], 0
}

// dropLane takes a lane out of memory, and off the list of those that ask: in an
// outage nobody looks anything up, and the list would grow with every checkpoint
// (P7).
func (o *overlay) dropLane(l *lane) {
	o.unask(l)
	delete(o.lanes, l.key)
}

// limitSeen notes that the database alone holds a task of the key with this ID.
func (o *overlay) limitSeen(key string, id outbox.ID) {
	l := o.lanes[key]
	if l == nil || id.Compare(l.seen) >= 0 {
		return
	}
	l.seen = id
	if len(l.waiting) > 0 && l.waiting[0].at >= 0 && l.waiting[0].id.Compare(id) >= 0 {
		l.waiting[0].in.remove(l.waiting[0])
	}
	if l.busy == nil {
		o.ask(l)
	}
}

// look notes that the due bucket has a task at this place which may not be in
// memory (I3).
func (o *overlay) look(p place) { o.queue(p.queue).look(p.spot) }
