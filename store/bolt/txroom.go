package bolt

import (
	"errors"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// takeRoomInTx is takeRoom within a transaction of the application, which cannot wait
// and may be rolled back. mu is held.
func (s *Store) takeRoomInTx(g *txGroup, entries []*entry) error {
	g.use = totalCost(entries)
	if s.opts.overflow != DropOldest {
		if full := s.shortOf(g.use); full != nil {
			return full
		}
	}
	s.txUse.add(g.use, 1)
	g.holds = true
	return nil
}

// letGoOfRoom ends what takeRoomInTx has begun. mu is held.
func (s *Store) letGoOfRoom(g *txGroup) {
	if g.holds {
		g.holds = false
		s.txUse.add(g.use, -1)
		s.grantLocked()
	}
}

// ended notes that a transaction is over: what it has not committed by now holds no
// room any more.
func (s *Store) ended(tx *bbolt.Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, g := range s.groups {
		if g.tx == tx && !g.known {
			s.letGoOfRoom(g)
			delete(s.groups, id)
		}
	}
}

// sweepLocked has the flusher find out which transactions were rolled back, for nobody
// else tells: they may hold the room that is lacking. mu is held.
func (s *Store) sweepLocked() {
	if s.txUse != (amount{}) {
		s.unswept = true
		wake(s.wakeFlush)
	}
}

// sweep is that. It waits for an open transaction to end.
func (s *Store) sweep() {
	s.mu.Lock()
	unswept := s.unswept && s.usable() == nil
	s.unswept = false
	s.mu.Unlock()
	if !unswept {
		return
	}
	var err error
	defer contain(&err, s.path, debug.SetPanicOnFault(true)) // whoever needs the page that is damaged will say so
	_, err = s.write(toAdd, func(tx *bbolt.Tx) error {       // an error is that of a database that its owner has closed
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reconcile(tx, b)
		return errLookOnly
	})
}

// errLookOnly ends a write transaction that was begun to see what is committed.
var errLookOnly = errors.New("nothing to commit")
