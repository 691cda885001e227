package postgres

import (
	"context"
	"iter"

	"github.com/goutbox/goutbox/outbox"
)

// Export implements [outbox.Exporter]: as Tasks, page by page, each with what is left of
// delays and times to live when it was read. First it does what is due for LatestOnly events of
// transactions (see [WithTx]), as a claim would.
func (s *Store) Export(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		if err := s.coalesceAll(ctx); err != nil {
			yield(outbox.Task{}, err)
			return
		}
		s.list(ctx, f, true)(yield)
	}
}

// notOutdated leaves out what the next sweep replaces.
const notOutdated = ` AND NOT (t.state = 0 AND t.latest_key IS NOT NULL AND EXISTS (
	SELECT FROM goutbox_marks m WHERE m.kind = 1 AND m.key = t.latest_key AND t.id < m.upto AND t.id <> m.keep))`

// coalesceAll replaces the outdated, as far as no other instance is at that.
func (s *Store) coalesceAll(ctx context.Context) error {
	for {
		c, err := s.chores(ctx)
		if err != nil || !c.latest {
			return err
		}
		got := false
		err = s.run(ctx, "export", func(ctx context.Context, w *work) (err error) {
			w.lazy = true
			if got, err = w.tryLock(ctx, lockSweep); err != nil || !got {
				return err
			}
			return w.coalesce(ctx)
		})
		if err != nil || !got {
			return err
		}
	}
}
