package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// structure checks the pages, and reads what the database says of the whole store.
func (v *verifier) structure(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if v.p, err = newPages(f, info.Size()); err != nil {
		if v.page(err); v.p == nil {
			return nil
		}
	}
	for _, err := range v.p.metas { // one of them: see guardDatabase
		var e *pageError
		if errors.As(err, &e) {
			v.found(Finding{File: databaseName, Offset: e.offset, Note: true, Err: errors.New(e.what)})
		} else if err != nil {
			v.page(err)
		}
	}
	v.buckets = map[string]bucketRef{}
	w := v.p.newWalk()
	w.wrong = v.page
	w.bucket = func(path [][]byte, b bucketRef) bool {
		if len(path) == 2 && bytes.Equal(path[0], bucketRoot) {
			v.buckets[string(path[1])] = b
		}
		return true
	}
	w.all()
	w.freelist(true)
	for _, name := range [...][]byte{bucketTasks, bucketRetries, bucketDue, bucketKeys, bucketSole, bucketDead, bucketMeta} {
		if _, ok := v.buckets[string(name)]; !ok {
			v.found(Finding{File: databaseName, Bucket: string(name), Err: fmt.Errorf("%w: the bucket is missing", outbox.ErrCorrupt)})
		}
	}
	v.meta()
	return nil
}

// metaValues is the meta bucket.
type metaValues map[string][]byte

func (m metaValues) Get(key []byte) []byte { return m[string(key)] }

// meta reads the records of the meta bucket.
func (v *verifier) meta() {
	m := metaValues{}
	for p := range v.pairs(bucketMeta) {
		m[string(p.k)] = slices.Clone(p.v)
		switch string(p.k) {
		case string(keyFormat), string(keyState), string(keyWall), string(keyUsage), string(keySalvaged):
		default:
			v.wrong(p, bucketMeta, outbox.ID{}, fmt.Errorf("%w: unknown record %q", outbox.ErrCorrupt, p.k))
		}
	}
	said := func(err error) bool {
		if err != nil {
			v.found(Finding{File: databaseName, Bucket: string(bucketMeta), Err: err})
		}
		return err != nil
	}
	var err error
	if v.version, v.uuid, err = readFormat(m, databaseName); said(err) {
		return
	}
	v.Store = v.uuid
	if v.state, err = readState(m, databaseName); said(err) {
		return
	}
	v.usage, v.hasUse, err = readUsage(m, databaseName)
	said(err)
	if v.salvaged, err = readSalvaged(m, databaseName); said(err) {
		return
	}
	v.known, v.tail.gaps = true, v.state.gaps
}

// pair is a key and a value, and where they are.
type pair struct {
	k, v   []byte
	page   uint64
	offset int64
}

// pairs yields what a bucket holds, as far as it can be read; what can not was found
// by structure. A pair is valid until the next one.
func (v *verifier) pairs(bucket []byte) iter.Seq[pair] {
	return func(yield func(pair) bool) {
		ref, ok := v.buckets[string(bucket)]
		if !ok || ref.inline == nil && ref.root >= v.p.high {
			return
		}
		w := v.p.newWalk()
		w.bucket = func([][]byte, bucketRef) bool { return false }
		w.pair = func(_ [][]byte, k, value []byte, page uint64, offset int64) bool {
			return yield(pair{k, value, page, offset})
		}
		w.in(ref)
	}
}

func (v *verifier) wrong(at pair, bucket []byte, id outbox.ID, err error) {
	v.found(Finding{File: databaseName, Offset: int64(at.page*v.p.pageSize) + at.offset, Bucket: string(bucket), ID: id, Err: err})
}

func (v *verifier) bad(at pair, bucket []byte, id outbox.ID, format string, args ...any) {
	v.wrong(at, bucket, id, fmt.Errorf("%w: "+format, append([]any{outbox.ErrCorrupt}, args...)...))
}

// stream is a bucket that is read beside another one, in the order of IDs.
type stream struct {
	next func() (pair, bool)
	stop func()
	pair
	id outbox.ID
	ok bool
}

func (v *verifier) stream(bucket []byte) *stream {
	next, stop := iter.Pull(v.pairs(bucket))
	s := &stream{next: next, stop: stop}
	s.advance(v, bucket)
	return s
}

func (s *stream) advance(v *verifier, bucket []byte) {
	for {
		if s.pair, s.ok = s.next(); !s.ok {
			return
		}
		if len(s.k) == len(s.id) {
			s.id = outbox.ID(s.k)
			return
		}
		v.bad(s.pair, bucket, outbox.ID{}, "a key of %d bytes", len(s.k))
	}
}

// content checks all values, and the sums. Tasks, schedules and dead letters are read
// side by side, in the order of IDs; a window of tasks at a time is held against the
// indexes, so that memory is bounded (P7).
func (v *verifier) content() {
	tasks, retries, dead := v.stream(bucketTasks), v.stream(bucketRetries), v.stream(bucketDead)
	defer tasks.stop()
	defer retries.stop()
	defer dead.stop()
	win := window{v: v, first: true}
	v.tail.saw(v.state.lastID)
	for ; tasks.ok; tasks.advance(v, bucketTasks) {
		v.upTo(&win, dead, tasks.id, false)
		v.orphans(retries, tasks.id, false)
		if dead.ok && dead.id == tasks.id {
			v.bad(tasks.pair, bucketTasks, tasks.id, "it waits and is dead")
		}
		win.add(v.waiting(tasks, retries))
		if win.full() {
			win.close(tasks.id)
		}
	}
	v.upTo(&win, dead, outbox.ID{}, true)
	v.orphans(retries, outbox.ID{}, true)
	win.close(maxID)
	v.quarantined()
	v.spent()
	v.sums()
}

// waiting checks a task, and the schedule that belongs to it.
func (v *verifier) waiting(t, retries *stream) indexed {
	in := indexed{id: t.id, offset: t.offset, page: t.page}
	seen := headerOf(t.v[:max(len(t.v)-4, 0)])
	v.counted.put(&seen, homeTasks, 1)
	v.count(t, bucketTasks, homeTasks)
	raw, err := checkCRC(t.k, t.v)
	var h header
	if err == nil {
		h, err = decodeHeader(raw)
	}
	if err == nil && h.id != t.id {
		err = fmt.Errorf("%w: it is task %s", outbox.ErrCorrupt, h.id)
	}
	sched := schedule{due: h.due}
	if err != nil {
		v.wrong(t.pair, bucketTasks, t.id, err)
		in.bad = true
	}
	if retries.ok && retries.id == t.id {
		value, err := checkCRC(retries.k, retries.v)
		r := reader{b: value}
		if sched = r.schedule(); err == nil && (r.bad || len(r.b) != 0) {
			err = fmt.Errorf("%w: schedule", outbox.ErrCorrupt)
		}
		if err != nil {
			v.wrong(retries.pair, bucketRetries, t.id, err)
			in.bad = true
		}
		retries.advance(v, bucketRetries)
	}
	in.when, in.queue = firstLook(sched.due, h.expires), hashKey(string(h.queue.append(nil)))
	in.key, in.unique, in.latest = hashKey(h.key), hashKey(h.unique), hashKey(h.latest)
	return in
}

// upTo checks the dead letters before id, or all that are left.
func (v *verifier) upTo(win *window, dead *stream, id outbox.ID, all bool) {
	for ; dead.ok && (all || dead.id.Compare(id) < 0); dead.advance(v, bucketDead) {
		v.counted[homeDead].add(amount{1, costOfDamaged(homeDead, dead.v)}, 1) // which is that of an intact one, too
		v.count(dead, bucketDead, homeDead)
		l := loadDead(buckets{}, dead.id, dead.v)
		err := l.bad
		if err == nil && l.header.id != dead.id {
			err = fmt.Errorf("%w: it is task %s", outbox.ErrCorrupt, l.header.id)
		}
		if err != nil {
			v.wrong(dead.pair, bucketDead, dead.id, err)
		}
		if _, any := v.buckets[string(bucketParked)]; any || l.header.parksFor(l.reason) {
			win.addDead(dead, l)
		}
	}
}

// quarantined counts the dead letters whose values are damaged, which the store knows.
func (v *verifier) quarantined() {
	s := v.stream(bucketDamaged)
	defer s.stop()
	for ; s.ok; s.advance(v, bucketDamaged) {
		v.counted[homeDead].add(amount{1, loadDamaged(s.id, s.v).header.cost}, 1)
		v.count(s, bucketDamaged, homeDead)
		v.found(Finding{File: databaseName, Offset: int64(s.page*v.p.pageSize) + s.offset, Bucket: string(bucketDamaged), ID: s.id,
			Note: true, Err: errors.New("its value is damaged, and kept as a dead letter")})
	}
}

// orphans notes the schedules before id, or all that are left: they belong to no task.
func (v *verifier) orphans(retries *stream, id outbox.ID, all bool) {
	for ; retries.ok && (all || retries.id.Compare(id) < 0); retries.advance(v, bucketRetries) {
		v.bad(retries.pair, bucketRetries, retries.id, "the task does not wait")
	}
}

// count counts a task of the database, unless the log knows better.
func (v *verifier) count(s *stream, bucket []byte, at home) {
	if s.id.Compare(v.tail.lastID) > 0 {
		v.bad(s.pair, bucket, s.id, "P4: it is above the last ID, %s", v.tail.lastID)
	}
	if t, ok := v.tail.tasks[s.id]; ok {
		t.there = true
		v.tail.tasks[s.id] = t
		return
	}
	if at == homeDead {
		v.Dead++
	} else {
		v.Waiting++
	}
}

// sums compares counters with the count (P5).
func (v *verifier) sums() {
	for id, t := range v.tail.tasks {
		switch {
		case t.home == homeNone:
		case !t.there && v.salvaged > 0: // which has reported it
		case !t.there:
			v.found(Finding{File: logName, ID: id, Err: fmt.Errorf("%w: the log is about a task that neither it nor the database has", outbox.ErrCorrupt)})
		case t.home == homeDead:
			v.Dead++
		default:
			v.Waiting++
		}
	}
	differ := func(what string, said, counted any) {
		if said != counted {
			v.found(Finding{File: databaseName, Bucket: string(bucketMeta), Err: fmt.Errorf("%w: %s: %v by the books, %v counted", outbox.ErrCorrupt, what, said, counted)})
		}
	}
	l := v.state.ledger
	l.add(v.tail.since, 1)
	differ("P5: waiting = accepted - delivered - dropped - dead", l.waiting(), int64(v.Waiting))
	differ("P5: dead", l.dead, int64(v.Dead))
	if v.hasUse {
		differ("usage: tasks and bytes that wait", v.usage[homeTasks], v.counted[homeTasks])
		differ("usage: tasks and bytes of the dead", v.usage[homeDead], v.counted[homeDead])
		for _, class := range outbox.Priorities {
			differ("usage: tasks and bytes that wait, of class "+class.String(), *v.usage.class(class), *v.counted.class(class))
		}
	}
	last := v.tail.lastID
	if text := v.tail.gaps.wrong(&l, last); text != "" {
		v.found(Finding{File: databaseName, Bucket: string(bucketMeta), Err: fmt.Errorf("%w: gaps: %s", outbox.ErrCorrupt, text)})
	}
	if min(l.accepted, l.delivered, l.dead, l.requeued, slices.Min(l.dropped[:])) < 0 {
		v.found(Finding{File: databaseName, Bucket: string(bucketMeta), Err: fmt.Errorf("%w: P5: a counter is negative: %+v", outbox.ErrCorrupt, l)})
	}
}
