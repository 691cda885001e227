package mem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Delete drops waiting and dead tasks. One in flight stays and is reported as
// [outbox.ErrInFlight], an unknown one as [outbox.ErrNotFound].
func (s *Store) Delete(ctx context.Context, ids ...outbox.ID) (int, error) {
	n := 0
	err := s.change(ctx, func(time.Time) error {
		var errs []error
		for _, id := range ids {
			err := s.deleteLocked(id)
			if err == nil {
				n++
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return n, err
}

// deleteLocked drops one task.
func (s *Store) deleteLocked(id outbox.ID) error {
	e := s.findLocked(id)
	switch {
	case e == nil:
		return fmt.Errorf("mem: delete %s: %w", id, outbox.ErrNotFound)
	case e.State == outbox.InFlight:
		return fmt.Errorf("mem: delete %s: %w", id, outbox.ErrInFlight)
	}
	s.dropLocked(e, outbox.ReasonDeleted)
	return nil
}
