package storetest_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

func (s *fileStore) Export(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		for t, err := range s.Tasks(ctx, f) {
			if t.SetLeft(time.Now()); !yield(t, err) {
				return
			}
		}
	}
}

func (s *fileStore) Import(ctx context.Context, tasks []outbox.Task) (n int, err error) {
	if outbox.TxFrom(ctx) != nil {
		return 0, outbox.ErrTxUnsupported
	}
	if err := outbox.CheckImport(tasks); err != nil {
		return 0, err
	}
	err = s.call(ctx, func(c *content, now time.Time) error {
		var rows []*row
		unique := map[string]bool{}
		for _, t := range tasks {
			dead := t.State == outbox.Dead
			if c.find(t.ID) != nil || !dead && c.newer(t.LatestOnly, t.ID) {
				continue
			}
			if !dead && (unique[t.Unique] || c.taken(t.Unique, now)) {
				return outbox.ErrDuplicate
			}
			unique[t.Unique] = unique[t.Unique] || !dead && t.Unique != ""
			r := &row{Task: t, Due: now.Add(t.Delay)}
			r.DueAt, r.ExpiresAt, r.Token, r.Attempt = r.Due, time.Time{}, 0, 0
			if t.TTL > 0 {
				r.ExpiresAt = now.Add(t.TTL)
			}
			if r.Delay, r.TTL, r.Lease = 0, 0, 0; !dead {
				r.State = outbox.Waiting
			}
			rows = append(rows, r)
		}
		for _, r := range rows {
			if r.State == outbox.Waiting && r.LatestOnly != "" {
				c.replace(r)
			}
			c.Rows = append(c.Rows, r)
			if r.ID.Compare(c.LastID) > 0 {
				c.LastID = r.ID
			}
		}
		slices.SortFunc(c.Rows, func(a, b *row) int { return a.ID.Compare(b.ID) })
		n = len(rows)
		c.Counters.Accepted += uint64(n)
		return nil
	})
	return n, err
}
