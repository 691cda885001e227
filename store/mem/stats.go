package mem

import (
	"context"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Stats counts the tasks held and adds the counters of those that are gone. Only
// the latter are kept, so Accepted, which is, proves the rest (P5).
func (s *Store) Stats(ctx context.Context) (outbox.Stats, error) {
	var st outbox.Stats
	err := s.step(ctx, func(time.Time) error {
		st.Accepted, st.Delivered, st.Requeued = s.accepted, s.delivered, s.requeued
		st.DroppedBy, st.Dropped = s.dropped, s.dropped.Total()
		for _, e := range s.tasks {
			switch e.State {
			case outbox.Waiting:
				if st.Pending == 0 {
					st.OldestPending = e.CreatedAt
				}
				st.Pending++
				st.PendingByPriority.Add(e.Priority, 1)
			case outbox.InFlight:
				st.InFlight++
			case outbox.Dead:
				st.Dead++
			}
		}
		return nil
	})
	return st, err
}
