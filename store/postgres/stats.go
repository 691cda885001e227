package postgres

import (
	"context"
	"database/sql"

	"github.com/goutbox/goutbox/outbox"
)

const statsSQL = `SELECT ` + sumColumns + `, (SELECT created_at FROM goutbox_tasks WHERE state = 0 ORDER BY id LIMIT 1) FROM goutbox_ledger`

// Stats reads the counters, in one statement: one moment of all instances (P5). A task whose
// lease has run out counts as in flight until a claim notices.
func (s *Store) Stats(ctx context.Context) (outbox.Stats, error) {
	var l ledger
	var oldest sql.NullTime
	err := s.read(ctx, "stats", func(ctx context.Context, w *work) error {
		return w.row(ctx, statsSQL, nil, append(l.into(), &oldest)...)
	})
	if err != nil {
		return outbox.Stats{}, err
	}
	st := l.stats()
	if oldest.Valid {
		st.OldestPending = oldest.Time.UTC()
	}
	return st, nil
}

// stats shows a ledger to the world.
func (l *ledger) stats() outbox.Stats {
	dropped := outbox.Dropped{
		Expired: uint64(l.expired), Coalesced: uint64(l.coalesced), Quota: uint64(l.quota), Deleted: uint64(l.deleted),
	}
	return outbox.Stats{
		Accepted: uint64(l.accepted), Delivered: uint64(l.delivered), Requeued: uint64(l.requeued),
		Pending: uint64(l.high + l.normal + l.low), InFlight: uint64(l.inFlight), Dead: uint64(l.dead),
		Dropped: dropped.Total(), DroppedBy: dropped,
		PendingByPriority: outbox.ByPriority{High: uint64(l.high), Normal: uint64(l.normal), Low: uint64(l.low)},
	}
}
