package bolt

import (
	"bytes"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// look is one look at the database for victims.
type look struct {
	s     *Store
	of    home
	known []outbox.ID // the ids so far
	bad   []outbox.ID // of them, those that are not there
	ids   []outbox.ID // found,
	from  outbox.ID   // behind it
	bound outbox.ID   // and up to here
	end   bool        // there are no more
	found []*loaded
	most  int
	bytes int
	limit int
}

// findVictims brings the oldest tasks of a home into memory: at most so many, with at
// most so many bytes. then is called under mu with them there, and told whether there
// may be more.
func (s *Store) findVictims(of home, most, limit int, then func(more bool) error) error {
	var l *look
	return s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		v := &s.overlay.victims[of]
		l = &look{s: s, of: of, known: slices.Clone(v.ids), from: v.bound, bound: v.bound, most: most, limit: limit}
		s.mu.Unlock()
		bucket := b.tasks
		if of == homeDead {
			bucket = b.dead
		}
		return l.scan(b, bucket)
	}, func() error {
		l.merge(of)
		return then(!l.end)
	})
}

// scan reads what memory does not have.
func (l *look) scan(b buckets, bucket *bbolt.Bucket) error {
	for _, id := range l.known {
		if l.full() {
			return nil
		}
		if there, _ := l.inMemory(id); !there && !l.read(b, id) {
			l.bad = append(l.bad, id)
		}
	}
	c := bucket.Cursor()
	k, _ := c.Seek(l.bound[:])
	if bytes.Equal(k, l.bound[:]) {
		k, _ = c.Next()
	}
	up := climb{from: slices.Clone(l.bound[:])}
	for ; k != nil; k, _ = c.Next() {
		if err := up.to(k, []byte("tasks or dead")); err != nil {
			return err
		}
		if len(k) != len(l.bound) {
			continue
		}
		if l.full() {
			return nil
		}
		id := outbox.ID(k)
		if there, gone := l.inMemory(id); !gone && (there || l.read(b, id)) {
			l.ids = append(l.ids, id)
		}
		l.bound = id
	}
	l.end = true
	return nil
}

func (l *look) full() bool {
	return len(l.found) >= l.most || len(l.ids) >= l.most || l.bytes >= l.limit
}

// inMemory says whether a task is an entry, and one of which nothing will be left, or that
// is kept.
func (l *look) inMemory(id outbox.ID) (there, gone bool) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	e := l.s.overlay.entries[id]
	return e != nil, e != nil && (e.gone || e.kept(l.of))
}

// read reads a task. One that is damaged is no victim, but has been met: see
// damaged.go.
func (l *look) read(b buckets, id outbox.ID) bool {
	t := load(b, id)
	if t == nil {
		return false
	}
	l.found = append(l.found, t)
	l.bytes += len(t.raw)
	return t.bad == nil && !(t.header.gap && l.of == homeTasks)
}

// merge puts what was found to the rest. mu is held, and the database is as it was.
func (l *look) merge(of home) {
	o := &l.s.overlay
	v := &o.victims[of]
	v.most = l.most
	for _, t := range l.found {
		l.s.admitLoaded(t)
	}
	if len(l.bad) > 0 {
		v.ids = slices.DeleteFunc(slices.Clone(v.ids), func(id outbox.ID) bool {
			_, bad := slices.BinarySearchFunc(l.bad, id, outbox.ID.Compare)
			return bad && o.entries[id] == nil
		})
	}
	if v.bound != l.from { // somebody else has looked meanwhile, or found too many
		l.end = false
		return
	}
	to := l.bound
	if l.end {
		to = l.s.ids.last
	}
	if to.Compare(l.from) <= 0 {
		return
	}
	for id, e := range o.entries {
		if id.Compare(l.from) > 0 && id.Compare(to) <= 0 && !e.gone && !e.kept(of) && (e.state == outbox.Dead) == (of == homeDead) {
			l.ids = append(l.ids, id)
		}
	}
	slices.SortFunc(l.ids, outbox.ID.Compare)
	v.ids = append(slices.Clone(v.ids), slices.Compact(l.ids)...)
	v.bound = to
}
