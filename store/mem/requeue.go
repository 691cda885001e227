package mem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Requeue makes dead tasks wait again, due at once, with no attempt spent and
// their history kept.
//
// Their time-to-live no longer applies: a human has asked for them. One whose
// Unique or LatestOnly key is taken by now stays dead and is reported as
// [outbox.ErrDuplicate].
func (s *Store) Requeue(ctx context.Context, ids ...outbox.ID) (int, error) {
	n := 0
	err := s.change(ctx, func(now time.Time) error {
		var errs []error
		for _, id := range ids {
			err := s.requeueLocked(id, now)
			if err == nil {
				n++
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return n, err
}

// requeueLocked makes one dead task wait again.
func (s *Store) requeueLocked(id outbox.ID, now time.Time) error {
	e := s.findLocked(id)
	if e == nil || e.State != outbox.Dead {
		return fmt.Errorf("mem: requeue %s: %w", id, outbox.ErrNotFound)
	}
	if e.Unique != "" && s.uniqueTakenLocked(e.Unique, now) {
		return fmt.Errorf("mem: requeue %s: unique key %q: %w", id, e.Unique, outbox.ErrDuplicate)
	}
	if e.LatestOnly != "" && s.latestTakenLocked(e.LatestOnly) {
		return fmt.Errorf("mem: requeue %s: latest only key %q: %w", id, e.LatestOnly, outbox.ErrDuplicate)
	}
	e.State, e.Reason, e.Attempts = outbox.Waiting, "", 0
	e.DueAt, e.ExpiresAt, e.replaced = now, time.Time{}, false
	s.requeued++
	s.waitsLocked(e)
	return nil
}
