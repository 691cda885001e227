package postgres

import (
	"context"
	"database/sql"

	"github.com/goutbox/goutbox/outbox"
)

// ledger is a change of the counters, or their sum (P5): what waits by class, what is in
// flight and what is dead too, so that nobody has to count tasks.
type ledger struct {
	accepted, delivered, requeued      int64
	expired, coalesced, quota, deleted int64
	high, normal, low, inFlight, dead  int64
}

// waits counts n more tasks of a class as waiting.
func (l *ledger) waits(class int, n int64) {
	switch outbox.Priority(class) {
	case outbox.High:
		l.high += n
	case outbox.Low:
		l.low += n
	default:
		l.normal += n
	}
}

// at counts n more tasks of a class in a state.
func (l *ledger) at(st outbox.State, class int, n int64) {
	switch st {
	case outbox.Waiting:
		l.waits(class, n)
	case outbox.InFlight:
		l.inFlight += n
	case outbox.Dead:
		l.dead += n
	}
}

// drop counts one that is gone from a state, and why.
func (w *work) drop(st outbox.State, class int, why outbox.Reason) {
	w.ledger.at(st, class, -1)
	w.dropped.Add(why, 1)
	switch why {
	case outbox.ReasonExpired:
		w.ledger.expired++
	case outbox.ReasonCoalesced:
		w.ledger.coalesced++
	case outbox.ReasonQuota:
		w.ledger.quota++
	case outbox.ReasonDeleted:
		w.ledger.deleted++
	}
}

func (l *ledger) args() []any {
	return []any{
		l.accepted, l.delivered, l.requeued, l.expired, l.coalesced, l.quota, l.deleted,
		l.high, l.normal, l.low, l.inFlight, l.dead,
	}
}

func (l *ledger) into() []any {
	return []any{
		&l.accepted, &l.delivered, &l.requeued, &l.expired, &l.coalesced, &l.quota, &l.deleted,
		&l.high, &l.normal, &l.low, &l.inFlight, &l.dead,
	}
}

const ledgerColumns = `accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead`

// ledgerSQL adds to a row that nobody has locked, or makes a new one. It is the last
// statement of a transaction, and nothing waits for it.
const ledgerSQL = `
WITH free AS (
	SELECT id FROM goutbox_ledger WHERE call IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED
), added AS (
	UPDATE goutbox_ledger l SET
		accepted = accepted + $1, delivered = delivered + $2, requeued = requeued + $3, expired = expired + $4,
		coalesced = coalesced + $5, quota = quota + $6, deleted = deleted + $7, high = high + $8,
		normal = normal + $9, low = low + $10, in_flight = in_flight + $11, dead = dead + $12
	FROM free WHERE l.id = free.id
), made AS (
	INSERT INTO goutbox_ledger (` + ledgerColumns + `)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE NOT EXISTS (SELECT FROM free)
)
SELECT pg_current_xact_id()::text, CASE WHEN $13::boolean THEN set_config('synchronous_commit', 'off', true) END`

// foreignLedgerSQL makes a row, whatever there is: a transaction of the application may
// last, and may be one of those that must not change what others have.
const foreignLedgerSQL = `INSERT INTO goutbox_ledger (` + ledgerColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// writeLedger writes what the transaction changes, if it changes anything.
func (w *work) writeLedger(ctx context.Context) error {
	if w.ledger == (ledger{}) {
		return nil
	}
	if w.foreign {
		return w.exec(ctx, foreignLedgerSQL, w.ledger.args()...)
	}
	var setting sql.NullString
	return w.row(ctx, ledgerSQL, append(w.ledger.args(), w.lazy), &w.xid, &setting)
}

// How many rows of the ledger are enough: of everybody's, and of those that instances have, and leave
// behind when they are killed. An instance whose row is gone makes a new one.
const (
	ledgerRows  = 64
	ledgerSlots = 512
)

// foldSQL takes some rows out of the ledger, none of them locked by anybody; on demand also those of instances.
const foldSQL = `
WITH few AS (
	SELECT id FROM goutbox_ledger WHERE call IS NULL OR $1::boolean ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
	DELETE FROM goutbox_ledger l USING few WHERE l.id = few.id
	RETURNING l.*
)
SELECT ` + sumColumns + ` FROM gone`

const sumColumns = `coalesce(sum(accepted), 0)::bigint, coalesce(sum(delivered), 0)::bigint, coalesce(sum(requeued), 0)::bigint,
	coalesce(sum(expired), 0)::bigint, coalesce(sum(coalesced), 0)::bigint, coalesce(sum(quota), 0)::bigint,
	coalesce(sum(deleted), 0)::bigint, coalesce(sum(high), 0)::bigint, coalesce(sum(normal), 0)::bigint,
	coalesce(sum(low), 0)::bigint, coalesce(sum(in_flight), 0)::bigint, coalesce(sum(dead), 0)::bigint`

// fold makes one row of many, which transactions of the application have left. The sum is
// added to the change of the transaction, and so becomes a row again.
func (w *work) fold(ctx context.Context, slots bool) error {
	var sum ledger
	if err := w.row(ctx, foldSQL, []any{slots}, sum.into()...); err != nil {
		return err
	}
	w.ledger.add(sum)
	return nil
}
