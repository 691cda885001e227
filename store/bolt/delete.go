package bolt

import (
	"context"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// Delete implements [outbox.Store].
func (s *Store) Delete(ctx context.Context, ids ...outbox.ID) (int, error) {
	return s.change(ctx, "delete", ids, func(e *entry) (*op, error) {
		if e.phase == ending {
			return nil, fmt.Errorf("%w: task %s", outbox.ErrNotFound, e.id)
		}
		if e.phase != idle && !e.justMet() {
			return nil, fmt.Errorf("%w: task %s", outbox.ErrInFlight, e.id)
		}
		return e.deletion(), nil
	})
}

// justMet reports whether the record that makes a damaged task a dead letter is under way.
func (e *entry) justMet() bool { return e.damaged != homeNone && e.phase == settling }

// deletion is the drop of a task that waits or is dead. That of one just met comes behind
// the record that makes it a dead letter.
func (e *entry) deletion() *op {
	return &op{kind: opDrop, id: e.id, drop: dropDeleted, wasDead: e.state == outbox.Dead || e.justMet()}
}
