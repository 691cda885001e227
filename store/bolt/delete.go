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
		justMet := e.damaged != homeNone && e.phase == settling // its drop comes behind the record that makes it a dead letter
		if e.phase != idle && !justMet {
			return nil, fmt.Errorf("%w: task %s", outbox.ErrInFlight, e.id)
		}
		return &op{kind: opDrop, id: e.id, drop: dropDeleted, wasDead: e.state == outbox.Dead || justMet}, nil
	})
}
