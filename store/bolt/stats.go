package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// Stats implements [outbox.Store]. It counts what has been settled as settled,
// though its record may become durable a moment later.
func (s *Store) Stats(ctx context.Context) (outbox.Stats, error) {
	if err := ctx.Err(); err != nil {
		return outbox.Stats{}, fmt.Errorf("bolt: stats: %w", err)
	}
	var st outbox.Stats
	var first int64
	var damaged int
	err := s.read(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		first, damaged = s.oldestInDatabase(b), damagedIn(b)
		return nil
	}, func() error {
		st = s.countLocked()
		st.Damaged = s.countDamaged(damaged)
		if oldest := min(first, s.oldestInMemory()); oldest != never {
			st.OldestPending = wall(oldest)
		}
		return nil
	})
	if err != nil {
		return st, err
	}
	st.SyncLevel = s.opts.sync.String()
	l := s.log.Stats()
	st.Syncs, st.SyncedRecords = l.Syncs, l.Records
	st.BytesWritten = l.Bytes + s.written.Load()
	st.Checkpoints, st.Recovery = s.checkpoints.Load(), s.Recovery()
	if at := s.checkpointed.Load(); at != 0 {
		st.LastCheckpoint = time.Unix(0, at).UTC()
	}
	st.DatabaseBytes, st.LogBytes = uint64(max(0, fileSize(s.path))), uint64(l.HeldBytes)
	return st, nil
}

// countLocked reads the ledger. mu is held.
func (s *Store) countLocked() outbox.Stats {
	l := s.base
	l.add(s.since, 1)
	l.add(s.coming, 1)
	st := outbox.Stats{
		Accepted: uint64(l.accepted), Delivered: uint64(l.delivered), Dead: uint64(l.dead),
		InFlight: uint64(len(s.overlay.leases.list)), Requeued: uint64(l.requeued),
	}
	for i, n := range l.dropped {
		st.DroppedBy.Add(dropReasons[i], uint64(n))
	}
	st.Dropped = st.DroppedBy.Total()
	st.Pending = uint64(l.waiting()) - st.InFlight
	st.PendingBytes = uint64(s.use[homeTasks].bytes - s.unsure[homeTasks].bytes)
	class := func(p outbox.Priority) uint64 {
		return uint64(s.use.class(p).tasks - s.unsure.class(p).tasks - s.overlay.flying[p-outbox.Low])
	}
	st.PendingByPriority = outbox.ByPriority{High: class(outbox.High), Normal: class(outbox.Normal), Low: class(outbox.Low)}
	st.NoRoom = s.noRoom
	st.DeadBytes = uint64(s.use[homeDead].bytes - s.unsure[homeDead].bytes)
	return st
}

// oldestInMemory returns when the oldest task was accepted that waits in memory.
// mu is held.
func (s *Store) oldestInMemory() int64 {
	oldest := never
	for _, e := range s.overlay.entries {
		if e.state == outbox.Waiting && !e.gone && e.phase == idle {
			oldest = min(oldest, e.created)
		}
	}
	return oldest
}

// oldestInDatabase returns when the oldest task was accepted that waits in the
// database alone.
func (s *Store) oldestInDatabase(b buckets) int64 {
	c := b.tasks.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(k) != len(outbox.ID{}) || len(v) < taskFixed1 {
			continue
		}
		s.mu.Lock()
		known := s.overlay.entries[outbox.ID(k)] != nil
		s.mu.Unlock()
		if known {
			continue
		}
		if _, err := checkCRC(k, v); err == nil {
			return int64(binary.LittleEndian.Uint64(v[atCreated:]))
		}
	}
	return never
}
