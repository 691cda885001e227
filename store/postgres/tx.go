package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// WithTx returns a context in which Enqueue writes the event as a part of tx, a
// transaction of the store's database, whatever its isolation level: it is accepted when tx
// commits, together with the application's own data, and was never there when tx is rolled
// back. An error of the outbox leaves tx usable.
//
// Once committed, the event is found at the next look of the store, see
// [WithRetryInterval]; call [outbox.Outbox.Wake] after the commit to have it found at once.
//
// Until tx ends, others who accept an event with the same Key, Unique or LatestOnly key wait for
// it, so that the order of a key is that of the commits (P4); delivering waits for nothing. Two
// transactions that take such keys crosswise end as any deadlock does: PostgreSQL refuses
// one of them. Keep them short, as ever.
//
// A LatestOnly event replaces what waits when the next claim comes after the commit. With
// [WithMaxTasks], transactions do not count what others have not committed yet, so several together
// may exceed the quota; Block is Reject there, and DropOldest drops when the next event is
// accepted outside. At REPEATABLE READ and SERIALIZABLE a Unique key is compared with what
// the transaction can see, and its UniqueFor may be overlooked; so may, by an event with a preset
// ID, one of its LatestOnly key with a higher ID.
func WithTx(ctx context.Context, tx *sql.Tx) context.Context { return outbox.WithTx(ctx, tx) }

// createIn is Create within a transaction of the application. A savepoint keeps that
// usable when the database refuses something.
func (s *Store) createIn(ctx context.Context, foreign any, b *batch) error {
	tx, ok := foreign.(*sql.Tx)
	if !ok || tx == nil {
		return fmt.Errorf("postgres: create: a %T: %w", foreign, outbox.ErrTxUnsupported)
	}
	w := &work{s: s, querier: tx, foreign: true}
	if err := w.exec(ctx, "SAVEPOINT goutbox"); err != nil {
		return translate("create", err)
	}
	err := w.createForeign(ctx, b)
	if err == nil {
		err = w.exec(ctx, "RELEASE SAVEPOINT goutbox")
	}
	if err == nil {
		b.fill()
		return nil
	}
	// If this fails too, the connection is gone, and the transaction with it.
	back := w.exec(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT goutbox")
	if ours(err) {
		return errors.Join(fmt.Errorf("postgres: create: %w", err), back)
	}
	return errors.Join(translate("create", err), back)
}

// createForeign is createIn between the savepoint and its release.
func (w *work) createForeign(ctx context.Context, b *batch) error {
	if l := w.s.leanOf(b, 0); l != nil {
		var g given
		var told sql.NullString
		if err := w.row(ctx, acceptInSQL, w.s.acceptArgs(l), &g.call, &g.now, &g.token, &told); err != nil {
			return err
		}
		g.now = g.now.UTC()
		l.made(b, g, 0)
		return nil
	}
	if err := w.create(ctx, b); err != nil {
		return err
	}
	return w.finish(ctx)
}
