package bolt

import (
	"encoding/binary"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// What a task costs, in bytes, is the same in the log, in memory and in the
// database, so that replaying records can not make the sum drift. It follows from
// the encoded task alone, which holds payload, headers, name and keys:
//
//	encoded task + 96, plus the key's length + 48 for each Key, Unique and LatestOnly key
//
// 96 is the task's place in the tasks bucket (an element of 16 bytes, the ID, the
// CRC) and in the due bucket (16 and 24), and its part of page headers, branch pages
// and what is left free in a page. 48 is an element of 16 bytes, the ID, a prefix,
// and the same part, in the keys or sole bucket. What a task gathers later, its
// schedule and at most [outbox.MaxFailures] errors, does not count.
const (
	taskOverhead = 96
	keyOverhead  = 48
)

// costOf returns what a task costs.
func costOf(encoded int, key, unique, latest string) int64 {
	cost := encoded + taskOverhead
	for _, k := range [...]string{key, unique, latest} {
		if k != "" {
			cost += len(k) + keyOverhead
		}
	}
	return int64(cost)
}

// amount is how many tasks, and how many bytes they cost.
type amount struct{ tasks, bytes int64 }

// add adds b times sign, which is 1 or -1.
func (a *amount) add(b amount, sign int64) {
	a.tasks += sign * b.tasks
	a.bytes += sign * b.bytes
}

// usage is how much there is in the tasks bucket and how much in the dead one, or
// would be. The amount of homeNone means nothing.
type usage [3]amount

// move moves a task from one home to another.
func (u *usage) move(cost int64, from, to home) {
	u[from].add(amount{1, cost}, -1)
	u[to].add(amount{1, cost}, 1)
}

func (u *usage) add(b usage) {
	for i := range u {
		u[i].add(b[i], 1)
	}
}

// charge makes an entry count where it is going to be: among what waits, among the
// dead, or nowhere. It is called when the record that says so is queued, so what is
// not durable yet counts, and taken back when that record fails. When all of a record
// is charged, whoever queued it calls grantLocked. mu is held.
func (s *Store) charge(e *entry, to home) {
	if e.charged == to {
		return
	}
	s.use.move(e.cost, e.charged, to)
	e.charged = to
}

// chargeOp is charge for the operation of a record that was queued. mu is held.
func (s *Store) chargeOp(e *entry, o *op) {
	switch o.kind {
	case opDone, opDrop:
		s.charge(e, homeNone)
	case opBury:
		s.charge(e, homeDead)
	case opRequeue:
		s.charge(e, homeTasks)
	}
}

// unchargeOp takes chargeOp back. mu is held.
func (s *Store) unchargeOp(e *entry, o *op) {
	switch {
	case o.kind == opRequeue, o.kind == opDrop && o.wasDead:
		s.charge(e, homeDead)
	default:
		s.charge(e, homeTasks)
	}
}

// chargeCreate is charge for a new task, and the one that it replaces. Until it is
// durable Stats leaves it out. mu is held.
func (s *Store) chargeCreate(c *change) {
	s.charge(c.e, homeTasks)
	s.unsure.add(amount{1, c.e.cost}, 1)
	if r := c.replaced; r != nil {
		s.charge(r, homeNone)
		s.unsure.add(amount{1, r.cost}, -1)
	}
}

// sureOf notes that a create record is durable, or has failed. mu is held.
func (s *Store) sureOf(c *change) {
	s.unsure.add(amount{1, c.e.cost}, -1)
	if r := c.replaced; r != nil {
		s.unsure.add(amount{1, r.cost}, 1)
	}
}

// takeStock finds out what there is, at the end of recovery: what the database
// counts, and what the log says beyond that.
func (s *Store) takeStock(b buckets) error {
	use, known, err := readUsage(b.meta, s.db.Path())
	if err == nil && !known { // there was no room to write it: see upgrade
		use, err = recount(b)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.overlay.entries {
		it := e.snapshot()
		e.charged = it.target()
		use.move(e.cost, e.home, e.charged)
	}
	s.use = use
	return nil
}

// The usage record is the value of "usage" in the meta bucket: tasks and bytes of
// what waits, then of the dead. Every transaction that writes tasks changes it by
// what it writes, so it is right after a checkpoint that was cut short, too. It came
// with format version 2.
func (u usage) put(meta *bbolt.Bucket) error {
	var b []byte
	for _, a := range [...]amount{u[homeTasks], u[homeDead]} {
		b = binary.LittleEndian.AppendUint64(b, uint64(a.tasks))
		b = binary.LittleEndian.AppendUint64(b, uint64(a.bytes))
	}
	return meta.Put(keyUsage, withCRC(keyUsage, b))
}

// readUsage reads the usage record. A database of version 1 has none.
func readUsage(meta *bbolt.Bucket, path string) (u usage, known bool, err error) {
	v := meta.Get(keyUsage)
	if v == nil {
		version, _, err := readFormat(meta, path)
		if err == nil && version > 1 {
			err = fmt.Errorf("%w: %s: no usage record", outbox.ErrCorrupt, path)
		}
		return u, false, err
	}
	if v, err = checkCRC(keyUsage, v); err != nil {
		return u, false, fmt.Errorf("%w: %s: usage record", outbox.ErrCorrupt, path)
	}
	r := reader{b: v}
	for _, h := range [...]home{homeTasks, homeDead} {
		u[h] = amount{tasks: r.int64(), bytes: r.int64()}
	}
	if r.bad || len(r.b) != 0 {
		return u, false, fmt.Errorf("%w: %s: usage record", outbox.ErrCorrupt, path)
	}
	return u, true, nil
}

// account brings the usage record up to date with what the writer has written. If
// there is none, the database is brought to the present version.
func (w *writer) account(path string) error {
	u, known, err := readUsage(w.b.meta, path)
	switch {
	case err != nil:
		return err
	case !known:
		return rewriteUsage(w.b, path)
	case w.delta[homeTasks] == amount{} && w.delta[homeDead] == amount{}:
		return nil
	}
	u.add(w.delta)
	return u.put(w.b.meta)
}

// rewriteUsage counts everything anew. It is one scan of all tasks.
func rewriteUsage(b buckets, path string) error {
	u, err := recount(b)
	if err != nil {
		return err
	}
	_, uuid, err := readFormat(b.meta, path)
	if err == nil {
		err = putFormat(b.meta, uuid)
	}
	if err != nil {
		return err
	}
	return u.put(b.meta)
}

// recount counts what is in the database.
func recount(b buckets) (u usage, err error) {
	err = b.tasks.ForEach(func(_, v []byte) error {
		u[homeTasks].add(amount{1, costOfValue(v[:max(len(v)-4, 0)])}, 1)
		return nil
	})
	if err != nil {
		return u, err
	}
	err = b.dead.ForEach(func(_, v []byte) error {
		r := reader{b: v}
		u[homeDead].add(amount{1, costOfValue(r.take(int(r.uint32())))}, 1)
		return nil
	})
	return u, err
}

// costOfValue is what a task costs of which the database has this encoding; one
// that is damaged costs what can still be seen of it.
func costOfValue(raw []byte) int64 {
	h, err := decodeHeader(raw)
	if err != nil {
		return costOf(len(raw), "", "", "")
	}
	return h.cost
}

// upgrade brings a database of version 1 to the present one, in one transaction. If
// the disk has no room for it, the next checkpoint does it.
func (s *Store) upgrade() (err error) {
	defer contain(&err, s.db.Path())
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("bolt: upgrade: %w", err)
	}
	defer tx.Rollback()
	b, err := openBuckets(tx)
	if err != nil {
		return err
	}
	if err := newWriter(b).account(s.db.Path()); err != nil {
		return fmt.Errorf("bolt: upgrade: %w", err)
	}
	return s.commit(tx)
}

// stock is the usage three times over, all of one moment; see recountUsage.
type stock struct {
	recorded  usage // what the database says,
	recounted usage // and what a recount of it gives: the same
	memory    usage // what the quotas go by,
	expected  usage // and what it should be: recorded, with what memory knows beyond that
}

// recountUsage holds the usage against a recount of everything. It is one scan, with
// checkpoints kept off: a commit is there a moment before memory knows of it.
func (s *Store) recountUsage() (st stock, err error) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	err = s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		if st.recounted, err = recount(b); err != nil {
			return err
		}
		var known bool
		if st.recorded, known, err = readUsage(b.meta, s.db.Path()); !known {
			st.recorded = st.recounted
		}
		return err
	}, func() error {
		st.memory, st.expected = s.use, st.recorded
		for _, e := range s.overlay.entries {
			st.expected.move(e.cost, e.home, e.charged)
		}
		for _, u := range [...]*usage{&st.recorded, &st.recounted, &st.memory, &st.expected} {
			u[homeNone] = amount{}
		}
		return nil
	})
	return st, err
}
