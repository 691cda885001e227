package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// duplicate is a compact copy of the database, under the name of outbox.db.tmp.
type duplicate struct {
	path     string
	db       *bbolt.DB
	file     *os.File
	of       int   // number of the transaction that it is a copy of
	before   int64 // size of what it is a copy of
	reserved int64
}

// copyDatabase copies what tx sees, all buckets of the application among it. When give
// up says so it stops with errMoved. The copy is not durable yet.
func (s *Store) copyDatabase(tx *bbolt.Tx, giveUp func() bool) (c *duplicate, err error) {
	c = &duplicate{path: s.path + tmpSuffix, of: tx.ID(), before: tx.Size()}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bolt: compact: %w", err)
	}
	defer func() {
		if err != nil {
			c.discard()
		}
	}()
	defer contain(&err, c.path, debug.SetPanicOnFault(true))
	c.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMap, PageSize: tx.DB().Info().PageSize, NoSync: true,
		OpenFile: func(_ string, flag int, perm os.FileMode) (_ *os.File, err error) {
			c.file, err = openAs(s.opts.openFile, c.path, s.path, flag, perm)
			return c.file, err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("bolt: compact: %w", err)
	}
	c.db.AllocSize = growBytes / 4
	s.step("created")
	w := copying{to: c.db, giveUp: giveUp, pairs: map[string]int64{}}
	if w.tx, err = c.db.Begin(true); err != nil {
		return nil, err
	}
	defer func() { _ = w.tx.Rollback() }()
	if err = w.buckets(tx); err == nil {
		err = w.complete(tx, s.path)
	}
	if err != nil {
		return nil, err
	}
	s.step("copied")
	return c, w.tx.Commit()
}

// finish makes the copy durable, and gives it its reserve: only then may it take the
// place of the database.
func (s *Store) finish(c *duplicate) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("bolt: compact: %w", err)
			c.discard()
		}
	}()
	defer contain(&err, c.path, debug.SetPanicOnFault(true))
	c.db.NoSync, c.db.AllocSize = false, growBytes
	if err = c.db.View(func(tx *bbolt.Tx) error {
		high := tx.Size()
		c.reserved = high + s.reserveWanted() + s.opts.reserveBytes
		return allocateBlocks(c.file, high, c.reserved)
	}); err != nil {
		return err
	}
	if err = c.db.Sync(); err == nil {
		s.step("synced")
	}
	return err
}

// discard removes a copy that is not wanted.
func (c *duplicate) discard() {
	if c == nil {
		return
	}
	if c.db != nil {
		_ = c.db.Close()
	}
	_ = os.Remove(c.path) // else the next Open does
}

// copying writes a copy in transactions of bounded size (P7).
type copying struct {
	to     *bbolt.DB
	tx     *bbolt.Tx
	giveUp func() bool
	bytes  int // of this transaction
	keys   int
	synced int              // transactions since the last sync
	pairs  map[string]int64 // copied, by bucket of the store
}

// complete refuses a copy that has not as many tasks as the database says there are: a
// damaged page shows fewer, or the same ones twice, and bbolt does not mind (P11). The
// file that has the others must stay.
func (w *copying) complete(from *bbolt.Tx, path string) error {
	b, err := openBuckets(from)
	if err != nil {
		return err
	}
	u, known, err := readUsage(b.meta, path)
	if err != nil || !known {
		return err
	}
	waiting, dead := w.pairs[string(bucketTasks)], w.pairs[string(bucketDead)]+w.pairs[string(bucketDamaged)]
	if waiting != u[homeTasks].tasks || dead != u[homeDead].tasks {
		return fmt.Errorf("%w: %s: %d tasks and %d dead letters are found of %d and %d: a page is damaged, see Verify",
			outbox.ErrCorrupt, path, waiting, dead, u[homeTasks].tasks, u[homeDead].tasks)
	}
	return nil
}

func (w *copying) buckets(from *bbolt.Tx) error {
	return from.ForEach(func(name []byte, b *bbolt.Bucket) error {
		to, err := w.tx.CreateBucket(name)
		if err != nil {
			return err
		}
		if err := to.SetSequence(b.Sequence()); err != nil {
			return err
		}
		return w.bucket(b, [][]byte{name})
	})
}

// bucket copies what is in a bucket whose copy at path is made already.
func (w *copying) bucket(from *bbolt.Bucket, path [][]byte) error {
	var keys climb
	return from.ForEach(func(k, v []byte) error {
		if err := w.count(len(k) + len(v)); err != nil {
			return err
		}
		if err := keys.to(k, path[len(path)-1]); err != nil {
			return err
		}
		if len(path) == 2 && bytes.Equal(path[0], bucketRoot) {
			w.pairs[string(path[1])]++
		}
		to := w.find(path)
		if v != nil {
			to.FillPercent = 1
			return to.Put(k, v)
		}
		inner := from.Bucket(k)
		made, err := to.CreateBucket(k)
		if err != nil {
			return err
		}
		if err := made.SetSequence(inner.Sequence()); err != nil {
			return err
		}
		return w.bucket(inner, append(path[:len(path):len(path)], k))
	})
}

func (w *copying) find(path [][]byte) *bbolt.Bucket {
	b := w.tx.Bucket(path[0])
	for _, name := range path[1:] {
		b = b.Bucket(name)
	}
	return b
}

// count begins another transaction when this one is large enough. From time to time it
// syncs, so that the last sync has little left to do, and asks whether the copy is
// still wanted.
func (w *copying) count(bytes int) error {
	if w.keys++; w.keys%128 == 0 && w.giveUp() {
		return errMoved
	}
	if w.bytes += bytes; w.bytes < compactChunk {
		return nil
	}
	w.bytes = 0
	if err := w.tx.Commit(); err != nil {
		return err
	}
	if w.synced++; w.synced%4 == 0 {
		if err := w.to.Sync(); err != nil {
			return err
		}
	}
	tx, err := w.to.Begin(true)
	if err != nil {
		return err
	}
	w.tx = tx
	return nil
}
