package bolt

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// The usage record is the value of "usage" in the meta bucket: tasks and bytes of
// what waits, then of the dead, then of each class of what waits, Low first. Every transaction that writes tasks changes it by
// what it writes, so it is right after a checkpoint that was cut short, too. It came
// with format version 2, its classes with version 3.
func (u usage) write(meta *bbolt.Bucket) error {
	var b []byte
	for _, a := range u[homeTasks:] {
		b = binary.LittleEndian.AppendUint64(b, uint64(a.tasks))
		b = binary.LittleEndian.AppendUint64(b, uint64(a.bytes))
	}
	return meta.Put(keyUsage, withCRC(keyUsage, b))
}

// readUsage reads the usage record. A database of version 1 has none.
func readUsage(meta getter, path string) (u usage, known bool, err error) {
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
	u[homeTasks], u[homeDead] = r.amount(), r.amount()
	if len(r.b) > 0 {
		var sum amount
		for i := classAmounts; i < len(u); i++ {
			u[i] = r.amount()
			sum.add(u[i], 1)
		}
		r.bad = r.bad || sum != u[homeTasks]
	} else { // as version 2 wrote it
		*u.class(outbox.Normal) = u[homeTasks]
	}
	if r.bad || len(r.b) != 0 {
		return u, false, fmt.Errorf("%w: %s: usage record", outbox.ErrCorrupt, path)
	}
	return u, true, nil
}

func (r *reader) amount() amount { return amount{tasks: r.int64(), bytes: r.int64()} }

// account brings the usage record up to date with what the writer has written, and the
// database to the present version.
func (w *writer) account(path string) error {
	u, known, err := readUsage(w.b.meta, path)
	switch {
	case err != nil:
		return err
	case !known:
		return rewriteUsage(w.b, path)
	}
	if err := raiseFormat(w.b, path); err != nil || w.delta.none() && !w.recount {
		return err
	}
	u.add(w.delta)
	if w.recount { // what a damaged task has cost is not known any more
		exact, err := recount(w.b)
		if err != nil {
			return err
		}
		w.correction = exact
		for i := range u {
			w.correction[i].add(u[i], -1)
		}
		u = exact
	}
	return u.write(w.b.meta)
}

// rewriteUsage counts everything anew. It is one scan of all tasks.
func rewriteUsage(b buckets, path string) error {
	u, err := recount(b)
	if err != nil {
		return err
	}
	if err := raiseFormat(b, path); err != nil {
		return err
	}
	return u.write(b.meta)
}

// raiseFormat has the database say that it is of the present version.
func raiseFormat(b buckets, path string) error {
	version, uuid, err := readFormat(b.meta, path)
	if err != nil || version == formatVersion {
		return err
	}
	return putFormat(b.meta, uuid)
}

// recount counts what is in the database.
func recount(b buckets) (u usage, err error) {
	err = b.tasks.ForEach(func(_, v []byte) error {
		h := headerOf(v[:max(len(v)-4, 0)])
		u.put(&h, homeTasks, 1)
		return nil
	})
	if err != nil {
		return u, err
	}
	err = b.dead.ForEach(func(_, v []byte) error {
		u[homeDead].add(amount{1, costOfDamaged(homeDead, v)}, 1) // which is that of an intact one, too
		return nil
	})
	if err == nil && b.damaged != nil {
		err = b.damaged.ForEach(func(_, v []byte) error {
			u[homeDead].add(amount{1, loadDamaged(outbox.ID{}, v).header.cost}, 1)
			return nil
		})
	}
	return u, err
}

// costOfValue is what a task costs of which the database has this encoding; one
// that is damaged costs what can still be seen of it.
func costOfValue(raw []byte) int64 {
	h := headerOf(raw)
	return h.cost
}

// headerOf returns the header of a task, or of one that is damaged its cost at least.
func headerOf(raw []byte) header {
	h, err := decodeHeader(raw)
	if err != nil {
		return header{cost: costOf(len(raw), 0, "", "", "")}
	}
	return h
}

// upgrade brings a database of an earlier version to the present one, in one
// transaction, which moves no task: one of version 1 is counted, of version 2 nothing is
// read but two records. If the disk has no room for it, nothing is accepted until it has:
// the log would have records that older programs do not know. The next checkpoint does it,
// whoever makes the database take over a log position, or the flusher when it finds room.
func (s *Store) upgrade() (err error) {
	if !s.behind {
		return nil
	}
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	_, err = s.write(toAdd, func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		if err := newWriter(b).account(s.path); err != nil {
			return fmt.Errorf("bolt: upgrade: %w", err)
		}
		return nil
	})
	if err == nil {
		s.behind = false
		s.mu.Lock()
		s.generation++
		s.mu.Unlock()
	}
	return err
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
		if st.recorded, known, err = readUsage(b.meta, s.path); !known {
			st.recorded = st.recounted
		}
		return err
	}, func() error {
		st.memory, st.expected = s.use, st.recorded
		for _, e := range s.overlay.entries {
			st.expected.move(&e.header, e.home.counts(), e.charged)
		}
		for _, u := range [...]*usage{&st.recorded, &st.recounted, &st.memory, &st.expected} {
			u[homeNone] = amount{}
		}
		return nil
	})
	return st, err
}
