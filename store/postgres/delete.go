package postgres

import (
	"context"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// Delete drops waiting and dead tasks. One in flight stays and is reported as
// [outbox.ErrInFlight], unless its lease has run out; an unknown one as [outbox.ErrNotFound].
func (s *Store) Delete(ctx context.Context, ids ...outbox.ID) (int, error) {
	return s.inSteps(ctx, "delete", ids, func(ctx context.Context, w *work, ids []outbox.ID) (int, []error, error) {
		return w.delete(ctx, ids)
	})
}

const deletableSQL = `SELECT t.id::text, state < 2 AND lease_end > clock_timestamp() FROM goutbox_tasks t WHERE id = ANY ($1::uuid[]) ORDER BY t.id FOR UPDATE`

// delete is one step of Delete.
func (w *work) delete(ctx context.Context, ids []outbox.ID) (n int, missed []error, err error) {
	found := map[outbox.ID]bool{}
	var free list
	err = w.rows(ctx, deletableSQL, []any{idList(ids)}, func(scan func(...any) error) error {
		var text string
		var flies *bool
		if err := scan(&text, &flies); err != nil {
			return err
		}
		id, err := parseID(text)
		found[id] = flies != nil && *flies
		if !found[id] {
			free.id(id)
		}
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		switch flies, there := found[id]; {
		case !there:
			missed = append(missed, fmt.Errorf("postgres: delete %s: %w", id, outbox.ErrNotFound))
		case flies:
			missed = append(missed, fmt.Errorf("postgres: delete %s: %w", id, outbox.ErrInFlight))
		}
	}
	n, err = w.dropChosen(ctx, outbox.ReasonDeleted, goneSQL, free.String())
	return n, missed, err
}
