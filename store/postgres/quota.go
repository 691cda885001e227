package postgres

import (
	"context"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

const sumSQL = `SELECT ` + sumColumns + ` FROM goutbox_ledger`

// sum reads the counters: those of everybody who has committed, and of this transaction.
func (w *work) sum(ctx context.Context) (sum ledger, err error) {
	if err := w.row(ctx, sumSQL, nil, sum.into()...); err != nil {
		return sum, err
	}
	sum.add(w.ledger)
	return sum, nil
}

// add adds another change.
func (l *ledger) add(o ledger) {
	mine, theirs := l.into(), o.into()
	for i := range mine {
		*mine[i].(*int64) += *theirs[i].(*int64)
	}
}

// held is what counts against the quota.
func (l *ledger) held() int64 { return l.high + l.normal + l.low + l.inFlight }

var oldestSQL = dropSQL(`SELECT id FROM goutbox_tasks WHERE state = 0 AND name <> '` + outbox.GapName + `'::bytea
	ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`)

// makeRoom sees to the quota (P8), for so many more tasks. One transaction of the store's own at a time, so
// that the sum is exact; a transaction of the application does not keep the others from it.
func (w *work) makeRoom(ctx context.Context, asked int64, overflow Overflow) error {
	if w.s.quota == 0 {
		return nil
	}
	if !w.foreign {
		if err := w.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, w.s.lockNumber(lockQuota, "")); err != nil {
			return err
		}
	}
	sum, err := w.sum(ctx)
	if err != nil {
		return err
	}
	used := sum.held()
	lacks := used + asked - w.s.quota
	if lacks <= 0 || w.foreign && overflow == DropOldest {
		return nil
	}
	if overflow == DropOldest {
		n, err := w.dropChosen(ctx, outbox.ReasonQuota, oldestSQL, lacks)
		if err != nil || int64(n) == lacks {
			return err
		}
	}
	return fmt.Errorf("%w: %d of %d events are there, and %d more are asked for: have events delivered, delete some, or raise the quota",
		outbox.ErrFull, used, w.s.quota, asked)
}

var oldestDeadSQL = dropSQL(`SELECT id FROM goutbox_tasks WHERE state = 2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`)

// trimDead drops the dead letters that are too many.
func (w *work) trimDead(ctx context.Context) error {
	if w.s.deadQuota == 0 {
		return nil
	}
	sum, err := w.sum(ctx)
	if err != nil || sum.dead <= w.s.deadQuota {
		return err
	}
	_, err = w.dropChosen(ctx, outbox.ReasonQuota, oldestDeadSQL, sum.dead-w.s.deadQuota)
	return err
}
