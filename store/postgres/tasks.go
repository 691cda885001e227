package postgres

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// pageSize is how many tasks are read at once (P7); no transaction is open in between.
const (
	pageSize  = 256
	firstPage = 32
)

// Tasks lists tasks, oldest ID first, page by page; each page is as of the moment when it is read.
// Listings by state or key read an index; one by name or reason alone passes over all
// others.
func (s *Store) Tasks(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return s.list(ctx, f, false)
}

// list is Tasks, or Export but for what that does first.
func (s *Store) list(ctx context.Context, f outbox.Filter, export bool) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		listed, size := 0, firstPage
		for more := true; more; size = pageSize {
			page, last, err := s.page(ctx, f, size, export)
			if err != nil {
				yield(outbox.Task{}, err)
				return
			}
			for _, t := range page {
				if err := ctx.Err(); err != nil {
					yield(outbox.Task{}, fmt.Errorf("postgres: list: %w", err))
					return
				}
				if !yield(t, nil) {
					return
				}
				if listed++; listed == f.Limit {
					return
				}
			}
			more, f.After = !last.IsZero(), last
		}
	}
}

// page reads some tasks that match, and the ID of the last that was looked at; a zero one if
// there are no more.
func (s *Store) page(ctx context.Context, f outbox.Filter, size int, export bool) (page []outbox.Task, last outbox.ID, err error) {
	text, args := listSQL(f, size, export)
	err = s.read(ctx, "list", func(ctx context.Context, w *work) (err error) {
		page, last = nil, outbox.ID{}
		var now time.Time // before the page is read, so that nothing comes too early elsewhere
		if export {
			if now, err = w.now(ctx); err != nil {
				return err
			}
		}
		n := 0
		err = w.rows(ctx, text, args, func(scan func(...any) error) error {
			t, err := scanTask(scan)
			if err != nil {
				return err
			}
			t.Token = 0 // it stays with those who claimed
			if export {
				t.SetLeft(now)
			}
			if n, last = n+1, t.ID; f.Match(t) {
				page = append(page, t)
			}
			return nil
		})
		if n < size {
			last = outbox.ID{}
		}
		return err
	})
	return page, last, err
}

// listSQL makes the query of a page: a part for each state, each by its index, and all in one
// statement, so that a task which goes from one to another is seen once.
func listSQL(f outbox.Filter, size int, export bool) (text string, args []any) {
	args = []any{uuidOf(f.After), size}
	where := "t.id > $1::uuid"
	if export {
		where += notOutdated
	}
	also := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if f.Name != "" {
		also("t.name = $%d::bytea", []byte(f.Name))
	}
	if f.Key != "" {
		also("t.key = $%d::bytea", []byte(f.Key))
	}
	if f.Reason != "" {
		also("t.reason = $%d::bytea", []byte(f.Reason))
	}
	if !f.Before.IsZero() {
		also("t.created_at <= $%d", f.Before) // the database rounds; Match is exact
	}
	if len(f.States) == 0 && f.Key == "" {
		return "SELECT " + taskColumns + " FROM goutbox_tasks t WHERE " + where + " ORDER BY t.id LIMIT $2", args
	}
	var parts []string
	for _, st := range []outbox.State{outbox.Waiting, outbox.InFlight, outbox.Dead} {
		if f.Wants(st) {
			parts = append(parts, fmt.Sprintf("(SELECT t.* FROM goutbox_tasks t WHERE t.state = %d AND %s ORDER BY t.id LIMIT $2)", st, where))
		}
	}
	return "SELECT " + taskColumns + " FROM (" + strings.Join(parts, " UNION ALL ") + ") t ORDER BY t.id LIMIT $2", args
}
