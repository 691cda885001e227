package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// Unique keys that stay taken after the delivery ([outbox.Task.UniqueFor]). The outcome of
// such a task is a record of its own kind, which carries the time on the store's clock, so
// that a replay reserves the key until the same moment (R30). The entry then stays in memory
// though nothing is left of the task, and holds the key in overlay.unique, until a checkpoint
// has put the key into the bucket "spent", in the transaction that deletes the task. So an
// event with a UniqueFor costs the database two small values even if it is delivered at once:
//
//	'k', key         -> i64 until, ID of the task, CRC
//	't', until, key  -> nothing
//
// They are there until that time has passed: each checkpoint takes some that are over out
// again, and so does the background when nothing else is going on. They count towards no
// quota.
//
// The time is that of the store's clock, as for a time-to-live (P12): what has passed
// while the store was closed counts as far as clock.go believes it, so a key may stay
// taken for longer after a restart, and is not free earlier than a time-to-live ends.

// spentAtOnce is how many keys whose time is over one transaction takes out, besides as
// many as it has put in: they are anywhere in the bucket, and each changes a page (P7).
const spentAtOnce = 512

const spentSize = 8 + 16 // of a value, without its CRC

func spentPlace(key string) []byte { return append([]byte{'k'}, key...) }

func spentWhen(until int64, key []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'t'}, uint64(until)^(1<<63))
	return append(b, key...)
}

// spentOf is the reverse of spentWhen.
func spentOf(k []byte) (until int64, key []byte, ok bool) {
	if len(k) < 1+8 || k[0] != 't' {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(k[1:]) ^ (1 << 63)), k[9:], true
}

// readSpent reads a value of the spent bucket.
func readSpent(k, v []byte) (until int64, err error) {
	value, err := checkCRC(k, v)
	if err == nil && len(value) != spentSize {
		err = fmt.Errorf("%w: value of %d bytes", outbox.ErrCorrupt, len(v))
	}
	if err != nil {
		return 0, fmt.Errorf("unique key %q: %w", k[min(1, len(k)):], err)
	}
	return int64(binary.LittleEndian.Uint64(value)), nil
}

// spentUntil returns until when a Unique key is taken after a delivery, as the database
// knows; 0 if it is not. One whose value is damaged counts as free: the worst is an event
// that comes twice.
func (s *Store) spentUntil(b buckets, unique string) int64 {
	if b.spent == nil || unique == "" {
		return 0
	}
	k := spentPlace(unique)
	v := b.spent.Get(k)
	if v == nil {
		return 0
	}
	until, err := readSpent(k, v)
	if err != nil {
		s.opts.logger.Error("outbox: a Unique key that is taken after a delivery is damaged, and counts as free", "store", s.dir, "error", err)
	}
	return until
}

// holderOf returns the task in memory that holds a Unique key, or nil.
func (o *overlay) holderOf(unique string, now int64) *entry {
	if e := o.unique[unique]; e != nil && (!e.gone || e.spent > now) {
		return e
	}
	return nil
}

// reserveSpent makes e, of which nothing else is left, the holder of its Unique key, unless
// it is that of a later task by now.
func (o *overlay) reserveSpent(e *entry) {
	if other := o.unique[e.unique]; other == nil || other.gone && other.spent <= e.spent {
		o.unique[e.unique] = e
	}
}

// uniqueTaken says who has e's Unique key, as loadHolders and memory know. mu is held.
func (s *Store) uniqueTaken(e *entry, now int64) error {
	switch other := s.overlay.holderOf(e.unique, now); {
	case e.unique == "":
		return nil
	case other != nil && !other.gone:
		return fmt.Errorf("%w: unique key %q is held by %s", outbox.ErrDuplicate, e.unique, other.id)
	case other != nil, e.taken > now:
		return fmt.Errorf("%w: unique key %q is taken since a delivery", outbox.ErrDuplicate, e.unique)
	}
	return nil
}

// spend notes that a Unique key is taken until a time, unless it is for longer already: a
// record may be replayed onto a database that is ahead of it. The bucket is made when the
// first comes.
func (w *writer) spend(unique string, until int64, id outbox.ID) (err error) {
	if w.b.spent == nil {
		if w.b.spent, err = w.b.root.CreateBucketIfNotExists(bucketSpent); err != nil {
			return err
		}
	}
	k := spentPlace(unique)
	if v := w.b.spent.Get(k); v != nil {
		old, err := readSpent(k, v)
		if err == nil && old >= until {
			return nil
		}
		if err == nil { // else it goes when its time is over
			if err := w.b.spent.Delete(spentWhen(old, k[1:])); err != nil {
				return err
			}
		}
	}
	w.spends++
	value := binary.LittleEndian.AppendUint64(make([]byte, 0, spentSize+4), uint64(until))
	if err := w.b.spent.Put(k, withCRC(k, append(value, id[:]...))); err != nil {
		return err
	}
	return w.b.spent.Put(spentWhen(until, k[1:]), nil)
}

// forgetSpent takes out the Unique keys whose time is over, so many at most, and says how
// many those were.
func (w *writer) forgetSpent(most int) (n int, err error) {
	if w.b.spent == nil {
		return 0, nil
	}
	var over [][]byte
	c := w.b.spent.Cursor()
	for k, _ := c.Seek([]byte{'t'}); k != nil && len(over) < most; k, _ = c.Next() {
		until, _, ok := spentOf(k)
		if ok && until > w.now {
			break
		}
		over = append(over, bytes.Clone(k))
	}
	for _, k := range over {
		if err := w.b.spent.Delete(k); err != nil {
			return n, err
		}
		n++
		until, key, ok := spentOf(k)
		if !ok {
			continue
		}
		place := spentPlace(string(key))
		if now, err := readSpent(place, w.b.spent.Get(place)); err == nil && now != until {
			continue
		}
		if err := w.b.spent.Delete(place); err != nil { // that of a damaged one too
			return n, err
		}
	}
	return n, nil
}

// forgetSpent takes out of the database, some at a time, what no checkpoint will before
// long.
func (s *Store) forgetSpent() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	for {
		over, err := s.spentOver()
		if err != nil || !over {
			return err
		}
		if err := s.forgetSome(); err != nil {
			return err
		}
		s.mu.Lock()
		s.generation++
		s.mu.Unlock()
	}
}

// spentOver reports whether the database has a Unique key whose time is over.
func (s *Store) spentOver() (over bool, err error) {
	now := s.clock.now()
	err = s.view(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil || b.spent == nil {
			return err
		}
		k, _ := b.spent.Cursor().Seek([]byte{'t'})
		until, _, ok := spentOf(k)
		over = k != nil && (!ok || until <= now)
		return nil
	})
	return over, err
}

// forgetSome is one transaction of forgetSpent.
func (s *Store) forgetSome() (err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	stats, err := s.write(toRemove, func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		w := newWriter(b)
		w.now = s.clock.now()
		_, err = w.forgetSpent(spentAtOnce)
		return err
	})
	s.written.Add(uint64(stats.GetPageAlloc()))
	return err
}
