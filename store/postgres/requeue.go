package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// adminAtOnce bounds one transaction of Requeue and Delete. What was done before an error
// is done.
const adminAtOnce = 500

// inSteps runs f for some IDs at a time, each time in a transaction.
func (s *Store) inSteps(ctx context.Context, what string, ids []outbox.ID, f func(context.Context, *work, []outbox.ID) (int, []error, error)) (int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	total := 0
	var all []error
	done := map[outbox.ID]bool{}
	for len(ids) > 0 {
		m := min(len(ids), adminAtOnce)
		var step []outbox.ID
		for _, id := range ids[:m] {
			if done[id] {
				all = append(all, fmt.Errorf("postgres: %s %s: %w", what, id, outbox.ErrNotFound))
				continue
			}
			done[id] = true
			step = append(step, id)
		}
		n, missed := 0, []error(nil)
		err := s.run(ctx, what, func(ctx context.Context, w *work) (err error) {
			n, missed, err = f(ctx, w, step)
			return err
		})
		if err != nil {
			return total, errors.Join(append(all, err)...)
		}
		total += n
		all = append(all, missed...)
		ids = ids[m:]
	}
	s.notify()
	return total, errors.Join(all...)
}

// Requeue makes dead tasks wait again, due at once, with no attempt spent and their history
// kept. A LatestOnly or Unique key is compared with what others are about to accept, so it
// waits for a transaction of the application that takes the same key.
func (s *Store) Requeue(ctx context.Context, ids ...outbox.ID) (int, error) {
	return s.inSteps(ctx, "requeue", ids, func(ctx context.Context, w *work, ids []outbox.ID) (int, []error, error) {
		return w.requeue(ctx, ids)
	})
}

const (
	soleKeysSQL = `SELECT unique_key, latest_key FROM goutbox_tasks WHERE id = ANY ($1::uuid[]) AND state = 2
		AND (unique_key IS NOT NULL OR latest_key IS NOT NULL)`
	deadSQL = `SELECT t.id::text, priority, key, unique_key, latest_key FROM goutbox_tasks t WHERE id = ANY ($1::uuid[]) AND state = 2 ORDER BY t.id FOR UPDATE`
	// What is taken, of the keys asked for.
	takenSQL = `SELECT 0, unique_key FROM goutbox_tasks WHERE unique_key = ANY ($1::bytea[]) AND state < 2
		UNION ALL SELECT 0, unique_key FROM goutbox_spent WHERE unique_key = ANY ($1::bytea[]) AND until > clock_timestamp()
		UNION ALL SELECT 1, latest_key FROM goutbox_tasks WHERE latest_key = ANY ($2::bytea[]) AND state < 2 AND NOT replaced`
	requeueSQL = `UPDATE goutbox_tasks SET state = 0, reason = NULL, attempts = 0, due_at = clock_timestamp(), expires_at = NULL,
		replaced = false, parks = false, head = key IS NULL, held = NULL, token = 0 WHERE id = ANY ($1::uuid[])`
)

// sole is a Unique (0) or LatestOnly (1) key.
type sole struct {
	kind int
	key  string
}

// requeue is one step of Requeue.
func (w *work) requeue(ctx context.Context, ids []outbox.ID) (n int, missed []error, err error) {
	taken, err := w.soleKeys(ctx, ids)
	if err != nil {
		return 0, nil, err
	}
	type dead struct {
		class          int
		key            string
		unique, latest string
	}
	found := map[outbox.ID]dead{}
	err = w.rows(ctx, deadSQL, []any{idList(ids)}, func(scan func(...any) error) error {
		var text string
		var class int
		var key, unique, latest []byte
		if err := scan(&text, &class, &key, &unique, &latest); err != nil {
			return err
		}
		id, err := parseID(text)
		found[id] = dead{class, string(key), string(unique), string(latest)}
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	var again list
	for _, id := range ids {
		d, there := found[id]
		u, l := sole{0, d.unique}, sole{1, d.latest}
		switch {
		case !there:
			missed = append(missed, fmt.Errorf("postgres: requeue %s: %w", id, outbox.ErrNotFound))
			continue
		case d.unique != "" && taken[u]:
			missed = append(missed, fmt.Errorf("postgres: requeue %s: unique key %q: %w", id, d.unique, outbox.ErrDuplicate))
			continue
		case d.latest != "" && taken[l]:
			missed = append(missed, fmt.Errorf("postgres: requeue %s: latest only key %q: %w", id, d.latest, outbox.ErrDuplicate))
			continue
		}
		taken[u], taken[l] = true, true
		again.id(id)
		n++
		w.ledger.requeued++
		w.ledger.dead--
		w.ledger.waits(d.class, 1)
		w.mark(d.key)
	}
	if n == 0 {
		return 0, missed, nil
	}
	return n, missed, w.exec(ctx, requeueSQL, again.String())
}

// soleKeys locks the Unique and LatestOnly keys of these tasks, and says which of them are taken.
func (w *work) soleKeys(ctx context.Context, ids []outbox.ID) (map[sole]bool, error) {
	var uniques, latests list
	var numbers []int64
	err := w.rows(ctx, soleKeysSQL, []any{idList(ids)}, func(scan func(...any) error) error {
		var unique, latest []byte
		if err := scan(&unique, &latest); err != nil {
			return err
		}
		if unique != nil {
			uniques.bytes(unique)
			numbers = append(numbers, w.s.lockNumber(lockUnique, string(unique)))
		}
		if latest != nil {
			latests.bytes(latest)
			numbers = append(numbers, w.s.lockNumber(lockLatest, string(latest)))
		}
		return nil
	})
	taken := map[sole]bool{}
	if err != nil || len(numbers) == 0 {
		return taken, err
	}
	if err := w.lockAll(ctx, numbers); err != nil {
		return nil, err
	}
	err = w.rows(ctx, takenSQL, []any{uniques.String(), latests.String()}, func(scan func(...any) error) error {
		var kind int
		var key []byte
		err := scan(&kind, &key)
		taken[sole{kind, string(key)}] = true
		return err
	})
	return taken, err
}
