package bolt

import "github.com/goutbox/goutbox/outbox"

// flushed notes that the database has an item, and lets its entry leave memory if
// nothing has happened to it since. sweep comes after the last one. mu is held.
func (s *Store) flushed(it *item) {
	e, o := it.e, &s.overlay
	e.flushing = false
	if it.dirty {
		e.home, e.homeWhen = it.target(), firstLook(it.sched.due, it.header.expires)
		if it.target() == homeTasks && it.header.key != "" {
			o.hasKeys = true
		}
		o.hasKeys = o.hasKeys || it.parks()
	}
	if e.changes != it.changes {
		return // it stays dirty; the next checkpoint brings what came after
	}
	e.rewritten = false
	o.clean(e)
	if e.phase == idle && !s.mustStay(e) {
		o.evict(e)
	}
}

// mustStay reports whether an entry knows something that the database does not: a
// release is never written, so the due time that it gave is in memory only. It is
// forgotten once it has passed and memory is short. mu is held.
func (s *Store) mustStay(e *entry) bool {
	return !e.gone && e.state == outbox.Waiting && e.due != e.sched.due &&
		(e.due > s.clock.now() || !s.overlay.over(s.opts.softEntries, softBytes))
}

// evict takes a clean idle entry out of memory; a refill will find it again in the
// database.
func (o *overlay) evict(e *entry) {
	if e.gone || e.state == outbox.Dead {
		o.handOver(e)
		o.forget(e)
		return
	}
	l := e.lane
	if e.at >= 0 {
		o.thin(e)
	}
	if l != nil && l.busy != e {
		l.remove(e)
	}
	e.lane = nil
	e.in.look(spot{e.homeWhen, e.id})
	o.forget(e)
	switch {
	case l == nil:
	case len(l.waiting) == 0 && l.busy == nil && l.left == 0:
		o.dropLane(l) // the database lists the head
	default:
		o.limitSeen(l.key, e.id)
	}
}

// thin marks an entry that leaves the heap of its queue together with many others. One by
// one, and in the order in which they came, each costs a way through the whole heap: an
// eighth of a checkpoint.
func (o *overlay) thin(e *entry) {
	e.leaving = true
	if q := e.in; !q.thinned {
		q.thinned = true
		o.thinned = append(o.thinned, q)
	}
}

// sweep takes out of the heaps what thin has marked.
func (o *overlay) sweep() {
	for i, q := range o.thinned {
		q.ready.sweep()
		q.latest.sweep()
		q.thinned, o.thinned[i] = false, nil
	}
	o.thinned = o.thinned[:0]
}
