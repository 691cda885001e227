package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// indexer makes the indexes of the database agree with its tasks. All that they say
// follows from the tasks, whose values are proven by CRC, so what is damaged in due,
// keys, sole or retries is mended and not reported as lost (P11). A place that a damaged
// task may have stays, so that a claim comes upon it.
type indexer struct {
	w      *writer
	puts   int
	drops  int
	queues map[queueName]bool // into which a task was put
	last   place              // of the due bucket that wrongPlace has found right
}

func newIndexer(b buckets) indexer { return indexer{w: newWriter(b), queues: map[queueName]bool{}} }

// mendAtOnce is how many wrong entries are collected before they are taken out: a
// cursor does not survive that.
const mendAtOnce = 4096

// reindex goes through all tasks and all indexes in one transaction, which is committed
// only if something was wrong. It is done when a claim has come upon a place without a
// task, and when a store is opened that is so small that it costs nothing.
func (s *Store) reindex() (err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	s.flushing.Lock()
	defer s.flushing.Unlock()
	var x indexer
	for bytes := s.opts.reserveBytes; ; bytes *= 4 { // nobody knows before what it takes
		if err := s.extend(bytes); err != nil {
			return err
		}
		_, err = s.write(toAdd, func(tx *bbolt.Tx) error {
			b, err := openBuckets(tx)
			if err != nil {
				return err
			}
			x = newIndexer(b)
			if err := x.run(); err != nil {
				return fmt.Errorf("bolt: reindex: %w", err)
			}
			if x.puts+x.drops == 0 {
				return errLookOnly
			}
			return x.w.account(s.path) // sheets are of format 4
		})
		if !errors.Is(err, bolterrors.ErrMaxSizeReached) || !s.owned || bytes > 1<<40 {
			break
		}
	}
	if err != nil && err != errLookOnly {
		return err
	}
	if x.puts+x.drops > 0 {
		s.opts.logger.Error("outbox: the database's indexes were damaged, and have been made anew", "store", s.dir,
			"missing", x.puts, "wrong", x.drops)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.disordered = false
	s.overlay.hasKeys = s.overlay.hasKeys || x.puts > 0
	for _, q := range s.overlay.queues {
		q.lookAll(spotStart)
	}
	for name := range x.queues {
		s.overlay.queue(name).lookAll(spotStart)
	}
	for key := range x.w.keys {
		s.overlay.limitSeen(key, outbox.ID{})
	}
	s.overlay.news.unknown()
	s.announceLocked()
	return nil
}

// smallBytes is the size of a database whose indexes are compared with its tasks at
// every opening: it takes some milliseconds, however many stores there are of 10 GiB.
const smallBytes = 1 << 20

// reindexSmall is reindex for a database that is small. It comes after recovery: a store
// that is refused must not have been changed.
func (s *Store) reindexSmall() error {
	var small bool
	err := s.view(func(tx *bbolt.Tx) error {
		small = tx.Size() <= smallBytes && s.opts.guard >= guardPages // which has looked at all of its pages
		return nil
	})
	if err == nil && small {
		err = s.reindex()
	}
	if isFull(err) { // what is listed can be delivered (P9)
		s.opts.logger.Warn("outbox: disk full", "store", s.dir, "error", err)
		return nil
	}
	return err
}

// run compares everything.
func (x *indexer) run() error {
	b := x.w.b
	for _, one := range [...]struct {
		bucket *bbolt.Bucket
		wrong  func(k, v []byte) bool
	}{
		{b.due, x.wrongPlace}, {b.keys, x.wrongKey}, {b.sole, x.wrongHolder},
		{b.retries, func(k, _ []byte) bool { return b.tasks.Get(k) == nil }},
		{b.parked, x.wrongPark}, {b.spent, x.wrongSpent},
	} {
		n, err := dropFrom(one.bucket, one.wrong)
		if x.drops += n; err != nil {
			return err
		}
	}
	if err := errors.Join(x.each(b.tasks, x.missing), x.each(b.dead, x.missingPark), x.missingSpent()); err != nil {
		return err
	}
	for from := []byte(nil); ; {
		next, err := x.headsFrom(from, mendAtOnce)
		if err != nil {
			return err
		}
		if from = next; from == nil {
			return x.w.due.settle()
		}
	}
}

// dropFrom takes out of an index, if there is one, what is wrong in it, and says how much
// that was.
func dropFrom(bucket *bbolt.Bucket, wrong func(k, v []byte) bool) (n int, err error) {
	if bucket == nil {
		return 0, nil
	}
	for from := []byte(nil); ; {
		var gone [][]byte
		c := bucket.Cursor()
		k, v := c.Seek(from)
		for ; k != nil && len(gone) < mendAtOnce; k, v = c.Next() {
			if wrong(k, v) {
				gone = append(gone, bytes.Clone(k))
			}
		}
		from = bytes.Clone(k)
		for _, k := range gone {
			if err := bucket.Delete(k); err != nil {
				return n, err
			}
		}
		if n += len(gone); from == nil {
			return n, nil
		}
	}
}

// each calls f for everything in a bucket that it does not change.
func (x *indexer) each(bucket *bbolt.Bucket, f func(k, v []byte) error) error {
	c := bucket.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

// wrongPlace looks at all that a key of the due bucket lists. What is right of it comes back
// as missing.
func (x *indexer) wrongPlace(k, v []byte) bool {
	p, ok := placeOf(k)
	if !ok {
		return true
	}
	spots, err := readSheet(nil, k, v)
	if err != nil || !x.sheetBefore(p, spots) {
		return true
	}
	for _, at := range spots {
		l := load(x.w.b, at.id)
		if l == nil || l.home != homeTasks || l.bad == nil && l.place() != (place{p.queue, at}) {
			return true
		}
	}
	return false
}

// sheetBefore reports whether a key comes behind all that the one before lists, and takes
// its place.
func (x *indexer) sheetBefore(first place, spots []spot) bool {
	if first.within(x.last) {
		return false
	}
	x.last = place{first.queue, spots[len(spots)-1]}
	return true
}

// keyAndID splits a place of the keys bucket.
func keyAndID(k []byte) (key []byte, id outbox.ID, ok bool) {
	if len(k) < 2+len(id) || len(k) != 2+int(binary.BigEndian.Uint16(k))+len(id) {
		return nil, id, false
	}
	return k[2 : len(k)-len(id)], outbox.ID(k[len(k)-len(id):]), true
}

func (x *indexer) wrongKey(k, _ []byte) bool {
	key, id, ok := keyAndID(k)
	if !ok {
		return true
	}
	l := load(x.w.b, id)
	if l == nil || l.home != homeTasks {
		x.w.keys[string(key)] = true
		return true
	}
	return l.bad == nil && l.header.key != string(key)
}

func (x *indexer) wrongHolder(k, v []byte) bool {
	if len(v) != len(outbox.ID{}) || len(k) == 0 {
		return true
	}
	l := load(x.w.b, outbox.ID(v))
	if l == nil || l.home != homeTasks {
		return true
	}
	return l.bad == nil && !bytes.Equal(k, uniquePlace(l.header.unique)) && !bytes.Equal(k, latestPlace(l.header.latest))
}

// missing puts a task into the indexes where it is not.
func (x *indexer) missing(k, v []byte) error {
	if len(k) != len(outbox.ID{}) {
		return nil
	}
	b, l := x.w.b, loadWaiting(x.w.b, outbox.ID(k), v)
	at := l.place()
	if l.bad != nil {
		at.when = 0
		if !l.unsure || l.header.key != "" { // a claim will come upon it
			return nil
		}
	}
	if h := &l.header; l.bad == nil {
		puts, err := x.w.hold(&item{header: *h, sched: l.sched})
		x.puts += puts
		if err != nil {
			return err
		}
		if h.key != "" {
			if has(b.keys, keyPlace(h.key, h.id)) {
				return nil
			}
			x.puts++
			x.w.keys[h.key] = true
			return b.keys.Put(keyPlace(h.key, h.id), nil)
		}
	}
	return x.list(at)
}

// list puts a task into the due bucket if it is not there.
func (x *indexer) list(at place) error {
	if lists(x.w.b.due, at) {
		return nil
	}
	x.puts++
	x.queues[at.queue] = true
	return x.w.due.add(at)
}

// headsFrom sees to it that the head of each key is listed, for so many keys from a place
// in the keys bucket on. It returns where to go on.
func (x *indexer) headsFrom(from []byte, most int) (next []byte, err error) {
	c := x.w.b.keys.Cursor()
	for k, _ := c.Seek(from); k != nil; most-- {
		if most == 0 {
			return bytes.Clone(k), nil
		}
		key, id, _ := keyAndID(k)
		if l := load(x.w.b, id); l != nil {
			at := l.place()
			if l.bad != nil {
				at.when = 0 // to be met soon: see damaged.go
			}
			if err := x.list(at); err != nil {
				return nil, err
			}
		}
		k, _ = c.Seek(keyPlace(string(key), maxID)) // the next key; no ID is the highest
	}
	return nil, nil
}
