package bolt

import (
	"context"

	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// advance recycles the log up to the oldest record that it alone has, after a
// checkpoint that found no room for all. Where the log has no room for the record
// with which lighten does that, and in recovery, which writes no record, the database
// takes over a log position in the middle of what was going on. That needs no more
// than the reserve (P9). flushing is held.
func (s *Store) advance(ctx context.Context) error {
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	if live {
		if err := s.lightenLocked(ctx); !isFull(err) {
			return err
		}
	}
	return s.advanceDatabase(ctx)
}

// advanceDatabase has the database take over a log position. flushing is held.
func (s *Store) advanceDatabase(ctx context.Context) error {
	s.mu.Lock()
	applied, ledger := s.applied, s.since
	pos := s.overlay.neededFrom(applied+1) - 1
	known, lastID, seen, gaps := s.checkpoint, s.ids.last, s.moment(), s.gaps
	s.mu.Unlock()
	if pos <= known {
		return nil
	}
	// Or the log could end before the checkpoint, or lack what has ended a task before it.
	if err := s.secureLog(ctx, applied); err != nil {
		return err
	}
	after, err := s.sumOf(pos, applied)
	if err != nil {
		return err
	}
	ledger.add(after, -1)
	if _, err := s.write(toRemove, func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		if err := newWriter(b).account(s.path); err != nil { // an older program must not read this state
			return err
		}
		return changeState(b.meta, s.path, func(st *state) {
			st.ledger.add(ledger, 1)
			st.checkpoint = pos
			st.seen.see(seen)
			st.gaps, st.gapsAt = gaps, applied // as of pos nobody knows them any more
			if lastID.Compare(st.lastID) > 0 {
				st.lastID = lastID
			}
		})
	}); err != nil {
		return err
	}
	s.mu.Lock()
	s.generation++
	s.base.add(ledger, 1)
	s.since.add(ledger, -1)
	s.checkpoint = pos
	s.mu.Unlock()
	return s.trim(pos + 1)
}

// sumOf is what the log's records behind from, up to and with to, did to the ledger.
func (s *Store) sumOf(from, to wal.Position) (sum ledger, err error) {
	for rec, err := range s.log.Replay(from + 1) {
		if err != nil {
			return sum, s.translate(err)
		}
		if rec.Position > to {
			break
		}
		if err := decodeOps(rec.Data, func(o op) error {
			if o.kind != opBase {
				sum.add(o.effect(), 1)
			}
			return nil
		}); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
