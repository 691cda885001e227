package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Create accepts tasks, all or none. With a transaction in ctx, see [WithTx], they are a
// part of it.
//
// When the connection dies in the commit, the store asks the server what became of it;
// only if there is no answer the error is [outbox.ErrOutcomeUnknown], and the IDs are
// those that the tasks have if they were accepted. If ctx ends while tasks are on their way to the server, together
// with those of other callers perhaps, Create waits for the answer for another second; then that is the error too, and
// there are no IDs.
func (s *Store) Create(ctx context.Context, tasks []outbox.Task) error {
	if err := s.usable(ctx); err != nil || len(tasks) == 0 {
		return err
	}
	b, err := newBatch(tasks)
	if err != nil {
		return fmt.Errorf("postgres: create: %w", err)
	}
	if n := b.stays(); s.quota > 0 && n > s.quota {
		return fmt.Errorf("postgres: create: %w: %d events at once, the quota is %d", outbox.ErrTooLarge, n, s.quota)
	}
	if tx := outbox.TxFrom(ctx); tx != nil {
		return s.createIn(ctx, tx, b)
	}
	if l := s.leanOf(b, s.options.lease); l != nil {
		if fate, err := s.createLean(ctx, b, l); fate != refused || err != nil {
			return s.created(b, err)
		}
	}
	for {
		err = s.createAlone(ctx, b)
		if s.overflow != Block || !errors.Is(err, outbox.ErrFull) {
			break
		}
		if late := s.await(ctx); late != nil {
			return fmt.Errorf("%w: %w", err, late)
		}
	}
	return s.created(b, err)
}

// created tells the caller, and whoever listens, what became of a batch.
func (s *Store) created(b *batch, err error) error {
	if err == nil || errors.Is(err, outbox.ErrOutcomeUnknown) {
		b.fill()
	}
	if err == nil {
		s.notify()
	}
	return err
}

// createAlone is one try of Create, in a transaction of the store's own.
func (s *Store) createAlone(ctx context.Context, b *batch) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.room.leave()
	return s.runFrom(ctx, s.beginning(b), "create", func(ctx context.Context, w *work) error { return w.create(ctx, b) })
}

// beginning begins a transaction that accepts a batch. To plan its insert takes the server twice as long as to
// do it, and for nothing: whatever the parameters, there is one plan. What looks for other events first does
// have several, and the one for any number of LatestOnly keys reads the whole table.
func (s *Store) beginning(b *batch) string {
	if len(b.presets)+len(b.uniques)+len(b.latests) > 0 || s.quota > 0 {
		return s.begin
	}
	return s.begin + plannedOnce
}

// await returns when there may be room.
func (s *Store) await(ctx context.Context) error {
	heard := make(chan struct{}, 1)
	defer s.Notify(func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	})()
	timer := time.NewTimer(s.jitter())
	defer timer.Stop()
	select {
	case <-heard:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// create is Create within a transaction.
//
// The locks come first, and in a statement of their own: whoever has the lock of a key gives IDs
// to events of it, and has committed before the next one does. So in each key the order of IDs is that of the
// commits (P4). Behind them nothing is waited for that a transaction of the
// application holds.
func (w *work) create(ctx context.Context, b *batch) error {
	if err := w.lockAll(ctx, w.s.lockNumbers(b)); err != nil {
		return err
	}
	if err := w.refuse(ctx, b); err != nil {
		return err
	}
	if len(b.latests) > 0 && !w.foreign {
		if err := w.replace(ctx, b.latests); err != nil {
			return err
		}
	}
	if err := w.makeRoom(ctx, b.stays(), w.s.overflow); err != nil {
		return err
	}
	if err := w.insert(ctx, b); err != nil {
		return err
	}
	if len(b.latests) > 0 && w.foreign {
		if err := w.markLatest(ctx, b); err != nil {
			return err
		}
	}
	w.proof = b.proof()
	return w.announce(ctx)
}

// proof is an ID that is there once the batch is.
func (b *batch) proof() string {
	for i, m := range b.made {
		if !b.replaced[i] {
			return uuidOf(m.id)
		}
	}
	return ""
}

// lockNumbers are the locks that a batch needs.
func (s *Store) lockNumbers(b *batch) (numbers []int64) {
	for kind, texts := range map[string][]string{lockKey: b.keys, lockUnique: b.uniques, lockLatest: b.latests} {
		for _, text := range texts {
			numbers = append(numbers, s.lockNumber(kind, text))
		}
	}
	return numbers
}

const heldSQL = `
SELECT 'ID ' || id::text FROM goutbox_tasks WHERE id = ANY ($3::uuid[])
UNION ALL SELECT 'unique key ' || encode(unique_key, 'escape') FROM goutbox_tasks
	WHERE unique_key = ANY ($4::bytea[]) AND state < 2
UNION ALL SELECT 'unique key ' || encode(unique_key, 'escape') FROM goutbox_spent
	WHERE unique_key = ANY ($4::bytea[]) AND until > clock_timestamp()
UNION ALL SELECT 'latest only key ' || encode(o.key, 'escape') || ' of one with a higher ID' ` + outdoneSQL + `
LIMIT 1`

// outdoneSQL chooses, of some LatestOnly keys and IDs, those of which a newer task waits or is in flight.
const outdoneSQL = `FROM unnest($1::bytea[], $2::uuid[]) AS o(key, id)
	WHERE (SELECT true FROM goutbox_tasks n WHERE n.latest_key = o.key AND n.state < 2 AND NOT n.replaced AND n.id > o.id LIMIT 1)`

// soleLists are the parameters of outdoneSQL.
func soleLists(tasks []outbox.Task) (keys, ids string) {
	var k, i list
	for _, t := range tasks {
		k.bytes([]byte(t.LatestOnly))
		i.id(t.ID)
	}
	return k.String(), i.String()
}

// refuse says why the batch cannot be accepted, before anything of it is.
func (w *work) refuse(ctx context.Context, b *batch) error {
	if len(b.presets)+len(b.uniques) == 0 {
		return nil
	}
	var what string
	latests, sole := soleLists(b.sole)
	err := w.row(ctx, heldSQL, []any{latests, sole, idList(b.presets), textList(b.uniques)}, &what)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %w", what, outbox.ErrDuplicate)
}

const (
	outdateSQL    = `UPDATE goutbox_tasks t SET replaced = true WHERE latest_key = ANY ($1::bytea[]) AND state = 1`
	lockLatestSQL = `SELECT id FROM goutbox_tasks WHERE latest_key = ANY ($1::bytea[]) AND state < 2 ORDER BY id FOR UPDATE`
)

var coalesceSQL = dropSQL(`SELECT id FROM goutbox_tasks WHERE latest_key = ANY ($1::bytea[]) AND state = 0 FOR UPDATE`)

// replace makes room for newer tasks with these LatestOnly keys: what waits is dropped,
// what is in flight must not wait again. Locking them first, the lowest ID first, keeps their
// state as it is.
func (w *work) replace(ctx context.Context, latests []string) error {
	keys := textList(latests)
	if err := w.exec(ctx, lockLatestSQL, keys); err != nil {
		return err
	}
	if _, err := w.dropChosen(ctx, outbox.ReasonCoalesced, coalesceSQL, keys); err != nil {
		return err
	}
	return w.exec(ctx, outdateSQL, keys)
}

const markLatestSQL = `INSERT INTO goutbox_marks (kind, key, keep, upto)
	SELECT 1, l, k, k FROM unnest($1::bytea[], $2::uuid[]) AS u(l, k)`

// markLatest has the next sweep do what replace does: a transaction of the application
// must not hold what others wait for.
func (w *work) markLatest(ctx context.Context, b *batch) error {
	var latests, keep list
	for i, t := range b.tasks {
		if t.LatestOnly != "" && !b.replaced[i] {
			latests.bytes([]byte(t.LatestOnly))
			keep.id(b.made[i].id)
		}
	}
	return w.exec(ctx, markLatestSQL, latests.String(), keep.String())
}
