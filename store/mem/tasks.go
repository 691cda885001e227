package mem

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Tasks lists tasks, oldest ID first: those that matched when the listing began,
// as they were then. The caller may call the store meanwhile.
func (s *Store) Tasks(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return s.listing(ctx, f, func(*outbox.Task, time.Time) {})
}

// listing is Tasks, with a last touch to each task at the moment when it began.
func (s *Store) listing(ctx context.Context, f outbox.Filter, touch func(t *outbox.Task, now time.Time)) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		tasks, err := s.matching(ctx, f, touch)
		if err != nil {
			yield(outbox.Task{}, err)
			return
		}
		for _, t := range tasks {
			if err := ctx.Err(); err != nil {
				yield(outbox.Task{}, fmt.Errorf("mem: list: %w", err))
				return
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// matching copies what the filter chooses. Tokens stay with those who claimed.
func (s *Store) matching(ctx context.Context, f outbox.Filter, touch func(t *outbox.Task, now time.Time)) (tasks []outbox.Task, err error) {
	err = s.step(ctx, func(now time.Time) error {
		for _, e := range s.tasks {
			if f.Limit > 0 && len(tasks) == f.Limit {
				break
			}
			if f.Match(e.Task) {
				t := e.out()
				t.Token = 0
				touch(&t, now)
				tasks = append(tasks, t)
			}
		}
		return nil
	})
	return tasks, err
}
