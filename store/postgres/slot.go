package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// slot is a row of the ledger that belongs to this instance, and to one leader at a time. It stands for two things:
// nobody else looks for it or waits for it, and it says how far the calls of its owner have come.
type slot struct {
	id   int64 // 0: none yet, or not any more
	call int64 // as the last statement has left it
}

// fate is what became of calls that went together.
type fate int

const (
	refused  fate = iota // nothing was accepted: each goes its way alone, and gets its own error
	accepted             // and durable
	doubtful             // nobody can say
	shut                 // the store was closed before
)

const slotSQL = `INSERT INTO goutbox_ledger (` + ledgerColumns + `, call)
	VALUES (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, goutbox_next(0)) RETURNING id, call`

// accept accepts lean events in one message. The context is nobody's: what was sent can not be taken back.
func (s *Store) accept(ctx context.Context, conn *sql.Conn, sl *slot, l *lean) (fate, given, error) {
	for range 2 { // a slot that somebody has folded is made anew
		if sl.id == 0 {
			if err := conn.QueryRowContext(ctx, s.names.of(slotSQL)).Scan(&sl.id, &sl.call); err != nil {
				*sl = slot{}
				return refused, given{}, err
			}
		}
		var g given
		var told sql.NullString
		err := conn.QueryRowContext(ctx, s.names.of(acceptSQL), append(s.acceptArgs(l), sl.id, sl.call, l.leased)...).Scan(&g.call, &g.now, &g.token, &told)
		switch {
		case err == nil:
			sl.call = g.call
			g.now = g.now.UTC()
			return accepted, g, nil
		case errors.Is(err, sql.ErrNoRows):
			*sl = slot{}
			continue
		case state(err) != "" && !broken(err):
			return refused, given{}, err // by the server: it has rolled back
		}
		return doubtful, given{}, err
	}
	return refused, given{}, nil
}

// fenceSQL answers whether the last statement with a slot was committed: if not, it never will be, since the slot is
// none any more. It may be asked twice.
const fenceSQL = `UPDATE goutbox_ledger SET call = CASE WHEN call = $2 THEN NULL ELSE call END WHERE id = $1 RETURNING call`

// doubt finds out what became of a statement whose connection died. The update waits for the one that
// is still at work, and what is committed is on disk, so the answer is right after a crash too; unlike that of
// [Store.outcome] it is never a guess.
func (s *Store) doubt(ctx context.Context, sl *slot, l *lean) (fate, given) {
	was := *sl
	*sl = slot{}
	for tried := 0; ; tried++ {
		var call sql.NullInt64
		err := s.db.QueryRowContext(ctx, s.names.of(fenceSQL), was.id, was.call).Scan(&call)
		switch {
		case err == nil && !call.Valid:
			return refused, given{}
		case err == nil:
			*sl = slot{was.id, call.Int64}
			return accepted, given{call: call.Int64, now: s.createdAt(ctx, call.Int64, l)}
		case errors.Is(err, sql.ErrNoRows):
			return doubtful, given{} // folded, before or after
		}
		if !pause(ctx, tried) {
			return doubtful, given{}
		}
	}
}

// createdAt is when lean events were accepted. Those that are delivered already have left their IDs only,
// which know it to about a second.
func (s *Store) createdAt(ctx context.Context, call int64, l *lean) (now time.Time) {
	var id outbox.ID
	binary.BigEndian.PutUint64(id[:8], uint64(call))
	now = time.UnixMilli(int64(id.Time()))
	var ids list
	for i := range l.sizes {
		copy(id[8:], l.low(i, i))
		ids.id(id)
	}
	const ask = `SELECT created_at FROM goutbox_tasks WHERE id = ANY ($1::uuid[]) LIMIT 1`
	if err := s.db.QueryRowContext(ctx, s.names.of(ask), ids.String()).Scan(&now); err != nil {
		return now.UTC() // accepted they are
	}
	return now.UTC()
}

const giveUpSQL = `UPDATE goutbox_ledger SET call = NULL WHERE id = ANY ($1::bigint[])`

// giveUp makes rows of the ledger everybody's again.
func (w *work) giveUp(ctx context.Context, slots []*slot) error {
	var ids list
	for _, sl := range slots {
		if sl.id != 0 {
			ids.int(sl.id)
		}
	}
	if len(ids.b) == 0 {
		return nil
	}
	return w.exec(ctx, giveUpSQL, ids.String())
}
