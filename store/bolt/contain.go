package bolt

import (
	"fmt"
	"runtime/debug"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// contain turns a panic of bbolt into ErrCorrupt (R34, P11). Memory faults too become
// panics meanwhile: bbolt reads from a map of the file, and what a damaged page refers
// to may lie outside of it. That setting belongs to the goroutine, and before is what
// it was; defer evaluates its arguments at once, so
//
//	defer contain(&err, path, debug.SetPanicOnFault(true))
//
// is all it takes.
func contain(err *error, path string, before bool) {
	debug.SetPanicOnFault(before)
	if p := recover(); p != nil {
		*err = panicked(path, p)
	}
}

func panicked(path string, p any) error {
	return fmt.Errorf("%w: %s: bbolt: %v", outbox.ErrCorrupt, path, p)
}

// begin begins a writable transaction. If bbolt panics in it, it keeps its lock, and
// whoever asks for that would wait for ever.
func (s *Store) begin(db *bbolt.DB) (tx *bbolt.Tx, err error) {
	if s.jammed.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, s.failed
	}
	defer s.jam(&err, debug.SetPanicOnFault(true))
	return db.Begin(true)
}

// rollback ends a transaction, unless it was committed. bbolt may panic even here,
// when the pages that it wanted to free were not its own.
func (s *Store) rollback(tx *bbolt.Tx) {
	var err error
	defer s.jam(&err, debug.SetPanicOnFault(true))
	_ = tx.Rollback()
}

// jam is contain where a panic leaves bbolt with its writer lock held. It ends the
// store.
func (s *Store) jam(err *error, before bool) {
	debug.SetPanicOnFault(before)
	if p := recover(); p != nil {
		s.jammed.Store(true)
		*err = s.poison(panicked(s.path, p))
	}
}

// updateAttached is the transaction of Attach.
func updateAttached(db *bbolt.DB, f func(*bbolt.Tx) error) (err error) {
	defer contain(&err, db.Path(), debug.SetPanicOnFault(true))
	return db.Update(f)
}

// closeDatabase closes the store's own database. A jammed one can not be closed by
// bbolt; letting go of the file lets go of the lock on it, so that the store can be
// opened again, and costs this process the address space of the map.
func (s *Store) closeDatabase() (err error) {
	if s.jammed.Load() {
		return letGo(s.file)
	}
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	return s.db.Load().Close()
}
