package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// database goes through every bucket. Each index must point to tasks that are
// there, and each task must be found through its indexes; what memory says of where
// the database has a task must be so. Then the sums are compared.
func (a *auditor) database(path string) error {
	st, err := readState(a.b.meta, path)
	if err != nil {
		return err
	}
	same(a, "ledger in the database", st.ledger, a.base)
	same(a, "log position of the checkpoint", st.checkpoint, a.state.checkpoint)
	if st.lastID.Compare(a.state.lastID) > 0 {
		a.wrong("P4: the database knows ID %s, the next one comes after %s", st.lastID, a.state.lastID)
	}
	if st.seen.clock > a.state.seen.clock {
		a.wrong("P12: the database has seen time %d, the store's clock shows %d", st.seen.clock, a.state.seen.clock)
	}
	for _, one := range [...]struct {
		bucket *bbolt.Bucket
		check  func(k, v []byte)
	}{
		{a.b.tasks, a.waitingTask}, {a.b.dead, a.deadTask}, {a.b.retries, a.retry},
		{a.b.due, a.places()}, {a.b.keys, a.keys()}, {a.b.sole, a.holder},
	} {
		if err := a.each(one.bucket, one.check); err != nil {
			return err
		}
	}
	for _, one := range [...]struct {
		bucket *bbolt.Bucket
		check  func(k, v []byte)
	}{{a.b.damaged, a.damagedTask}, {a.b.parked, a.park}, {a.b.spent, a.spent}} {
		if one.bucket == nil {
			continue
		}
		if err := a.each(one.bucket, one.check); err != nil {
			return err
		}
	}
	for id, m := range a.memory {
		if l := load(a.b, id); m.home != homeNone && (l == nil || l.home != m.home) {
			a.wrong("task %s is said to be in the database, but is not there", id)
		}
	}
	// Each with a key was found in line, so if there are as many, none is in another's.
	same(a, "tasks in the lines of their keys", a.keyed, a.inLine)
	a.gaps()
	a.sums()
	return nil
}

// gaps looks for the gap events that are said to wait.
func (a *auditor) gaps() {
	for i := range a.state.gaps {
		g := &a.state.gaps[i]
		if _, there := a.memory[g.last]; g.open && !there && !has(a.b.tasks, g.last[:]) {
			a.wrong("P5: the latest gap for %q is said to wait, but is not there", outbox.GapReasons[i])
		}
	}
}

// sums is the ledger against the count (P5). Whatever else the store keeps sums of
// is compared here too.
func (a *auditor) sums() {
	l := &a.sum
	a.Ledger = outbox.Stats{
		Accepted: uint64(l.accepted), Delivered: uint64(l.delivered), Dead: uint64(l.dead),
		InFlight: a.InFlight, Pending: uint64(l.waiting()) - a.InFlight, Requeued: uint64(l.requeued),
	}
	for i, n := range l.dropped {
		a.Ledger.DroppedBy.Add(dropReasons[i], uint64(n))
		if n < 0 {
			a.wrong("P5: dropped as %s: %d", dropReasons[i], n)
		}
	}
	a.Ledger.Dropped = a.Ledger.DroppedBy.Total()
	same(a, "P5: waiting = accepted - delivered - dropped - dead", l.waiting(), int64(a.Waiting))
	same(a, "P5: dead", l.dead, int64(a.Dead))
	if text := a.state.gaps.wrong(l, a.state.lastID); text != "" {
		a.wrong("P5: gaps: %s", text)
	}
	if min(l.accepted, l.delivered, l.dead, l.requeued) < 0 {
		a.wrong("P5: a counter is negative: %+v", *l)
	}
}

// each calls check for all that a bucket holds.
func (a *auditor) each(bucket *bbolt.Bucket, check func(k, v []byte)) error {
	c := bucket.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if a.looked++; a.looked%1024 == 0 && a.ctx.Err() != nil {
			return fmt.Errorf("bolt: audit: %w", a.ctx.Err())
		}
		check(k, v)
	}
	return nil
}

// id reads the ID that ends a key.
func (a *auditor) id(bucket string, k []byte, at int) (id outbox.ID, ok bool) {
	if at < 0 || len(k) != at+len(id) {
		a.wrong("%s: a key of %d bytes", bucket, len(k))
		return id, false
	}
	return outbox.ID(k[at:]), true
}

// has reports whether a bucket holds the key. Places have no value, and bbolt's Get
// need not tell an empty one from none.
func has(bucket *bbolt.Bucket, key []byte) bool {
	k, _ := bucket.Cursor().Seek(key)
	return bytes.Equal(k, key)
}

func (a *auditor) waitingTask(k, v []byte) {
	id, ok := a.id("tasks", k, 0)
	if !ok {
		return
	}
	l := loadWaiting(a.b, id, v)
	switch {
	case l.bad != nil && a.memory[id].damaged: // a checkpoint takes it away
		a.known(id, homeTasks, a.memory[id].homeWhen)
		return
	case l.bad != nil:
		a.wrong("%v", l.bad)
		return
	case l.reset != nil:
		a.wrong("%v", l.reset)
	}
	if l.header.id != id {
		a.wrong("task %s stands under the ID %s", l.header.id, id)
	}
	when := firstLook(l.sched.due, l.header.expires)
	a.known(id, homeTasks, when)
	if l.header.key != "" {
		a.keyed++
	}
	switch key := l.header.key; {
	case key != "" && !has(a.b.keys, keyPlace(key, id)):
		a.wrong("task %s is not in the line of its key %q", id, key)
	case key == "" && !lists(a.b.due, l.header.at(when)):
		a.wrong("task %s is not listed as due at %d", id, when)
	}
}

func (a *auditor) deadTask(k, v []byte) {
	id, ok := a.id("dead", k, 0)
	if !ok {
		return
	}
	l := loadDead(a.b, id, v)
	switch {
	case l.bad != nil && !a.memory[id].damaged:
		a.wrong("%v", l.bad)
		return
	case l.bad != nil:
	case l.header.id != id:
		a.wrong("dead task %s stands under the ID %s", l.header.id, id)
	case a.b.tasks.Get(k) != nil:
		a.wrong("task %s waits and is dead", id)
	case l.header.parksFor(l.reason) && (a.b.parked == nil || !has(a.b.parked, keyPlace(l.header.key, id))):
		a.wrong("dead task %s parks key %q, but is not listed as such", id, l.header.key)
	}
	a.known(id, homeDead, 0)
}

// damagedTask counts a dead letter whose value is damaged: it is known, and no finding.
func (a *auditor) damagedTask(k, _ []byte) {
	id, ok := a.id("damaged", k, 0)
	if !ok {
		return
	}
	if a.b.tasks.Get(k) != nil || a.b.dead.Get(k) != nil {
		a.wrong("damaged task %s is there twice", id)
	}
	a.known(id, homeDamaged, 0)
}

// known counts a task of the database, unless memory has counted it.
func (a *auditor) known(id outbox.ID, at home, when int64) {
	m, inMemory := a.memory[id]
	switch {
	case !inMemory && at.counts() == homeDead:
		a.Dead++
	case !inMemory:
		a.Waiting++
	case m.home != at:
		a.wrong("task %s is in the database (%d), memory says otherwise (%d)", id, at, m.home)
	case at == homeTasks && m.homeWhen != when:
		a.wrong("task %s is listed as due at %d, memory says %d", id, when, m.homeWhen)
	}
	if id.Compare(a.state.lastID) > 0 {
		a.wrong("P4: task %s is above the last ID, %s", id, a.state.lastID)
	}
}

func (a *auditor) retry(k, _ []byte) { // its value is checked with the task
	if id, ok := a.id("retries", k, 0); ok && a.b.tasks.Get(k) == nil {
		a.wrong("there is a schedule of task %s, which does not wait", id)
	}
}

// listed returns where a waiting task has to be listed, and its header. Whether its
// values are whole is looked at elsewhere: of one that can not be read nothing is known.
func (a *auditor) listed(id outbox.ID) (at place, h header, waits, known bool) {
	v := a.b.tasks.Get(id[:])
	h, err := decodeHeader(v[:max(len(v)-4, 0)])
	if v == nil || err != nil {
		return at, h, v != nil, false
	}
	due := h.due
	if s := a.b.retries.Get(id[:]); len(s) > 8 {
		due = int64(binary.LittleEndian.Uint64(s[1:])) // see appendSchedule
	}
	h.id = id
	return h.at(firstLook(due, h.expires)), h, true, true
}

// places checks a key of the due bucket, and all places in its sheet.
func (a *auditor) places() func(k, v []byte) {
	var last place
	var spots []spot
	return func(k, v []byte) {
		p, ok := placeOf(k)
		if !ok {
			a.wrong("due: a key of %d bytes", len(k))
			return
		}
		var err error
		if spots, err = readSheet(spots[:0], k, v); err != nil {
			a.wrong("due: %v", err)
		}
		if p.within(last) {
			a.wrong("due: task %s is listed within the sheet before it, which ends with %s", p.id, last.id)
		}
		for _, at := range spots {
			last = place{p.queue, at}
			a.place(last)
		}
	}
}

// place checks a place of the due bucket. A former head of a key may be listed.
func (a *auditor) place(p place) {
	m, inMemory := a.memory[p.id]
	switch at, h, waits, known := a.listed(p.id); {
	case m.damaged: // a checkpoint takes it away
	case !waits:
		a.wrong("task %s is listed as due at %d, but does not wait", p.id, p.when)
	case known && at.queue != p.queue:
		a.wrong("task %s is listed in queue %+v, but is of %+v", p.id, p.queue, at.queue)
	case known && at != p:
		a.wrong("task %s is listed as due at %d, but that is not when it is due", p.id, p.when)
	case !inMemory && known && h.key == "":
		a.reach(p)
	}
}

// reach checks that a claim will come upon a task that only the database has.
func (a *auditor) reach(p place) {
	q, ok := a.queues[p.queue]
	switch {
	case !ok:
		a.wrong("I3: task %s is listed in a queue that memory does not know: %+v", p.id, p.queue)
	case p.before(q.floor):
		a.wrong("I3: task %s is listed before the floor, but is not in memory", p.id)
	case q.roof.before(p.spot) && !q.top.before(p.spot):
		a.wrong("I3: task %s is listed behind the roof, but is not in memory", p.id)
	case q.top.before(p.spot) && p.before(q.above):
		a.wrong("I3: task %s is listed where memory thinks that nothing is", p.id)
	}
}

// keys returns what checks the keys bucket, in order: the first of each key is its
// head, and must be listed as due, or a claim would never come upon the key.
func (a *auditor) keys() func(k, _ []byte) {
	var before []byte
	return func(k, _ []byte) {
		key, id, ok := keyAndID(k)
		if !ok {
			a.wrong("keys: a key of %d bytes", len(k))
			return
		}
		line := k[:len(k)-len(id)]
		head := !bytes.Equal(before, line)
		before = append(before[:0], line...)
		if a.memory[id].damaged {
			return
		}
		a.inLine++
		switch at, _, waits, known := a.listed(id); {
		case !waits:
			a.wrong("task %s is in the line of key %q, but does not wait", id, key)
		case head && known && !lists(a.b.due, at):
			a.wrong("task %s is the head of key %q, but is not listed as due", id, key)
		}
	}
}

// holder checks who holds a Unique or LatestOnly key.
func (a *auditor) holder(k, v []byte) {
	if len(v) != len(outbox.ID{}) || len(k) == 0 {
		a.wrong("sole: %d bytes for %q", len(v), k)
		return
	}
	id := outbox.ID(v)
	l := load(a.b, id)
	switch {
	case l != nil && l.home == homeTasks && l.bad != nil: // said already
	case l == nil || l.home != homeTasks:
		a.wrong("key %q is held by task %s, which does not wait", k, id)
	case !bytes.Equal(k, uniquePlace(l.header.unique)) && !bytes.Equal(k, latestPlace(l.header.latest)):
		a.wrong("key %q is held by task %s, which has others", k, id)
	}
}
