package bolt

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// build puts a new database together in a file of its own, and syncs it.
func (s *salvage) build(tmp string) (err error) {
	o := *s.o
	db, _, err := o.openDatabase(tmp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.NoSync = true // of a file that nobody looks at before it is synced, below
	r := rebuild{salvage: s, db: db}
	uuid := s.logOf
	if uuid == ([16]byte{}) {
		uuid = newUUID()
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return createBuckets(tx, uuid) }); err != nil {
		return err
	}
	for _, step := range [...]func() error{r.position, r.values, r.orphans, r.schedules, r.spent, r.application, r.indexes, r.account} {
		err := step()
		if err == nil {
			err = r.commit()
		}
		if err != nil {
			r.rollback()
			return err
		}
	}
	return db.Sync()
}

// rebuild is a new database in the making, in transactions of bounded size (P7).
type rebuild struct {
	*salvage
	db    *bbolt.DB
	tx    *bbolt.Tx
	b     buckets
	pairs int
	bytes int

	found  usage     // tasks and dead letters of the new database,
	keptAs [3]int64  // and where they were in the old one
	lastID outbox.ID // the highest that was met,
	seen   moment    // and the last time
	cut    []orphan  // schedules in pages that were cut off

	state     state              // that the database is to have: see position
	comes     map[outbox.ID]bool // tasks that the log will bring back
	lastInLog outbox.ID
}

type orphan struct{ k, v []byte }

// room begins a transaction, or the next one when this one is large enough.
func (r *rebuild) room(bytes int) error {
	if r.pairs++; r.pairs > chunkEntries || r.bytes > chunkBytes {
		if err := r.commit(); err != nil {
			return err
		}
	}
	r.bytes += bytes
	if r.tx != nil {
		return nil
	}
	tx, err := r.db.Begin(true)
	if err != nil {
		return err
	}
	r.tx = tx
	if r.b, err = openBuckets(tx); err == nil {
		newWriter(r.b) // which sets how full pages get
	}
	return err
}

func (r *rebuild) commit() error {
	if r.tx == nil {
		return nil
	}
	err := r.tx.Commit()
	r.tx, r.pairs, r.bytes = nil, 0, 0
	return err
}

func (r *rebuild) rollback() {
	if r.tx != nil {
		_ = r.tx.Rollback()
	}
}

// values copies tasks and dead letters that can be reached.
func (r *rebuild) values() error {
	for _, bucket := range [...][]byte{bucketTasks, bucketDead, bucketDamaged} {
		for p := range r.v.pairs(bucket) {
			if len(p.k) != len(outbox.ID{}) {
				continue
			}
			if err := r.value(bucket, outbox.ID(p.k), p.v, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// value takes over one value of a task, if there is none with its ID yet. One that is
// not intact is kept as a damaged one, if it is known where it belongs.
func (r *rebuild) value(bucket []byte, id outbox.ID, v []byte, known bool) error {
	if err := r.room(len(v)); err != nil {
		return err
	}
	if load(r.b, id) != nil {
		return nil
	}
	var l *loaded
	to, at := r.b.tasks, homeTasks
	switch string(bucket) {
	case string(bucketTasks):
		l = loadWaiting(buckets{tasks: r.b.tasks, retries: r.b.retries, sole: r.b.sole, keys: r.b.keys, due: r.b.due}, id, v)
	case string(bucketDead):
		l, to, at = loadDead(r.b, id, v), r.b.dead, homeDead
	default:
		l, at = loadDamaged(id, v), homeDead
	}
	if l.bad == nil {
		r.met(id, l.raw)
		r.found.put(&l.header, at, 1)
		r.keptAs[at]++
		return to.Put(id[:], bytes.Clone(v))
	}
	if !known {
		return nil
	}
	if r.comes[id] {
		r.keptAs[at]++
		return nil
	}
	r.met(id, nil)
	r.Damaged++
	w := newWriter(r.b)
	r.found[homeDead].add(amount{1, l.header.cost}, 1)
	r.keptAs[at]++
	return w.keepDamaged(&item{header: header{id: id}, raw: l.raw, damaged: l.from})
}

// met notes what a task says of the store's last ID and time.
func (r *rebuild) met(id outbox.ID, raw []byte) {
	if id.Compare(r.lastID) > 0 {
		r.lastID = id
	}
	if raw != nil {
		h, _ := decodeHeader(raw)
		r.seen.see(moment{clock: acceptedAt(raw), wall: h.created})
	}
}

// schedules copies those of tasks that are there.
func (r *rebuild) schedules() error {
	put := func(k, v []byte) error {
		if len(k) != len(outbox.ID{}) {
			return nil
		}
		if err := r.room(len(v)); err != nil {
			return err
		}
		if r.b.tasks.Get(k) == nil || r.b.retries.Get(k) != nil {
			return nil
		}
		value, err := checkCRC(k, v)
		rd := reader{b: value}
		if rd.schedule(); err != nil || rd.bad || len(rd.b) != 0 {
			r.Schedules++
			return nil
		}
		return r.b.retries.Put(bytes.Clone(k), bytes.Clone(v))
	}
	for p := range r.v.pairs(bucketRetries) {
		if err := put(p.k, p.v); err != nil {
			return err
		}
	}
	for _, o := range r.cut {
		if err := put(o.k, o.v); err != nil {
			return err
		}
	}
	r.cut = nil
	return nil
}

// indexes makes the places of all tasks.
func (r *rebuild) indexes() error {
	if err := r.room(0); err != nil {
		return err
	}
	err := errors.Join(
		r.places(func(b buckets) *bbolt.Bucket { return b.tasks }, (*indexer).missing),
		r.places(func(b buckets) *bbolt.Bucket { return b.dead }, (*indexer).missingPark))
	if err != nil {
		return err
	}
	for from := []byte(nil); ; {
		x := newIndexer(r.b)
		next, err := x.headsFrom(from, chunkEntries)
		if err == nil {
			err = x.w.due.settle()
		}
		if err == nil && next != nil {
			err = errors.Join(r.commit(), r.room(0))
		}
		if from = next; err != nil || from == nil {
			return err
		}
	}
}

// places makes those of what a bucket holds.
func (r *rebuild) places(of func(buckets) *bbolt.Bucket, missing func(x *indexer, k, v []byte) error) error {
	for from := []byte(nil); ; {
		x := newIndexer(r.b)
		c, n := of(r.b).Cursor(), 0
		k, v := c.Seek(from)
		for ; k != nil && n < chunkEntries; k, v = c.Next() {
			if err := missing(&x, k, v); err != nil {
				return err
			}
			n++
		}
		if err := x.w.due.settle(); err != nil {
			return err
		}
		if from = bytes.Clone(k); from == nil {
			return nil
		}
		if err := errors.Join(r.commit(), r.room(0)); err != nil {
			return err
		}
	}
}

// missed are the tasks that the old indexes name and the new database does not have.
func (r *rebuild) missed(is func(outbox.ID)) {
	for p := range r.v.pairs(bucketDue) {
		if len(p.k) < spotSize {
			continue
		}
		spots, _ := readSheet(nil, p.k, p.v)
		for _, at := range spots {
			if load(r.b, at.id) == nil {
				is(at.id)
			}
		}
	}
	for _, one := range [...]struct {
		bucket []byte
		id     func(p pair) []byte
	}{
		{bucketKeys, func(p pair) []byte { return idAtEnd(p.k) }},
		{bucketRetries, func(p pair) []byte {
			if _, err := checkCRC(p.k, p.v); err != nil {
				return nil
			}
			return p.k
		}},
		{bucketSole, func(p pair) []byte { return p.v }},
	} {
		for p := range r.v.pairs(one.bucket) {
			if id := one.id(p); len(id) == len(outbox.ID{}) && load(r.b, outbox.ID(id)) == nil {
				is(outbox.ID(id))
			}
		}
	}
}

// sayLost puts the list of lost tasks into the result.
func (s *salvage) sayLost() {
	for id := range s.lost {
		s.Lost = append(s.Lost, id)
	}
	slices.SortFunc(s.Lost, func(a, b outbox.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
	if len(s.Lost) > maxLost {
		s.Lost, s.LostMore = s.Lost[:maxLost], len(s.Lost)-maxLost
	}
}
