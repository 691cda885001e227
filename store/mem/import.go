package mem

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Export lists as Tasks does, with what is left of delays and times to live when the
// listing began.
func (s *Store) Export(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return s.listing(ctx, f, func(t *outbox.Task, now time.Time) { t.SetLeft(now) })
}

// Import accepts tasks that come from another store, all or none.
func (s *Store) Import(ctx context.Context, tasks []outbox.Task) (n int, err error) {
	if err := outbox.CheckImport(tasks); err != nil {
		return 0, fmt.Errorf("mem: %w", err)
	}
	err = s.change(ctx, func(now time.Time) error {
		if outbox.TxFrom(ctx) != nil {
			return fmt.Errorf("mem: import: %w", outbox.ErrTxUnsupported)
		}
		fresh := slices.DeleteFunc(slices.Clone(tasks), s.passesOverLocked)
		unique := map[string]bool{}
		for _, t := range fresh {
			if t.Unique == "" || t.State == outbox.Dead {
				continue
			}
			if unique[t.Unique] || s.uniqueTakenLocked(t.Unique, now) {
				return fmt.Errorf("mem: import %s: unique key %q: %w", t.ID, t.Unique, outbox.ErrDuplicate)
			}
			unique[t.Unique] = true
		}
		for _, t := range fresh {
			s.importLocked(t, now)
		}
		n = len(fresh)
		return nil
	})
	return n, err
}

// passesOverLocked reports whether a task is not to be imported: it is here already, or
// has been outdated.
func (s *Store) passesOverLocked(t outbox.Task) bool {
	return s.findLocked(t.ID) != nil || t.State != outbox.Dead && s.outdatedLocked(t.LatestOnly, t.ID)
}

// importLocked puts one task in, as it was where it comes from. A dead one replaces none.
func (s *Store) importLocked(t outbox.Task, now time.Time) {
	was := t
	if was.State == outbox.Dead {
		t.LatestOnly = ""
	}
	s.acceptLocked(&t, was.ID, was.CreatedAt.Round(0).UTC(), now)
	e := s.findLocked(was.ID)
	e.LatestOnly, e.DueAt = was.LatestOnly, now.Add(was.Delay)
	if was.State == outbox.Dead {
		e.State, e.Reason = outbox.Dead, was.Reason
	}
	if was.ID.Compare(s.lastID) > 0 {
		s.lastID = was.ID
	}
}
