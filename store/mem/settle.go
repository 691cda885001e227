package mem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Settle ends claims. An outcome counts as long as nobody else has claimed the
// task since, even after its lease has run out: what is known to be delivered is
// better not delivered twice.
func (s *Store) Settle(ctx context.Context, outcomes []outbox.Outcome) error {
	return s.change(ctx, func(now time.Time) error {
		var errs []error
		for _, o := range outcomes {
			errs = append(errs, s.settleLocked(o, now))
		}
		return errors.Join(errs...)
	})
}

// settleLocked ends one claim.
func (s *Store) settleLocked(o outbox.Outcome, now time.Time) error {
	e := s.findLocked(o.ID)
	if e == nil || e.Token == 0 || e.Token != o.Token {
		return fmt.Errorf("mem: settle %s: %w", o.ID, outbox.ErrLeaseLost)
	}
	switch o.Verdict {
	case outbox.Done:
		s.removeLocked(e)
		s.endedLocked(e)
		s.delivered++
		s.spendLocked(e, now)
	case outbox.Retry:
		e.Attempts++
		e.Fail(o.Failure)
		e.Token, e.DueAt = 0, after(now, o.Delay)
		s.waitAgainLocked(e)
	case outbox.Release:
		e.Token, e.DueAt = 0, after(now, o.Delay)
		s.waitAgainLocked(e)
	case outbox.Bury:
		if o.Spends() {
			e.Attempts++
		}
		e.Fail(o.Failure)
		e.Token, e.State, e.Reason = 0, outbox.Dead, o.Reason
		s.endedLocked(e)
	default:
		return fmt.Errorf("mem: settle %s: verdict %d: %w", o.ID, o.Verdict, outbox.ErrInvalid)
	}
	return nil
}

// spendLocked keeps the Unique key of a task that was delivered taken for its UniqueFor,
// and forgets the keys for which that time has passed.
func (s *Store) spendLocked(e *entry, now time.Time) {
	maps.DeleteFunc(s.spent, func(_ string, until time.Time) bool { return !until.After(now) })
	if e.Unique != "" && e.UniqueFor > 0 {
		s.spent[e.Unique] = after(now, e.UniqueFor)
	}
}
