package storetest_test

import (
	"context"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// brokenImports are stores that go wrong with what comes from another store.
var brokenImports = []brokenStore{
	{"takes any ID", []int{116}, func() *broken {
		return &broken{create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
			return swallow(s.Create(ctx, tasks), outbox.ErrInvalid)
		}}
	}},
	{"goes by the order of calls", []int{117}, func() *broken {
		return &broken{create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
			for _, t := range tasks {
				for _, old := range list(s, outbox.Filter{}) {
					if t.LatestOnly != "" && old.LatestOnly == t.LatestOnly && old.ID.Compare(t.ID) > 0 {
						_, _ = s.Delete(ctx, old.ID)
					}
				}
			}
			return s.Create(ctx, tasks)
		}}
	}},
	{"exports what Tasks lists", []int{118}, func() *broken {
		return &broken{export: func(t *outbox.Task) { t.Delay, t.TTL = 0, 0 }}
	}},
	{"accepts anew", []int{119}, func() *broken {
		return &broken{imports: eachImport(func(t *outbox.Task) { t.CreatedAt = time.Now() })}
	}},
	{"forgets what is left", []int{119, 123}, func() *broken {
		return &broken{imports: eachImport(func(t *outbox.Task) { t.Delay = 0 })}
	}},
	{"raises the dead", []int{120}, func() *broken {
		return &broken{imports: eachImport(func(t *outbox.Task) { t.State = outbox.Waiting })}
	}},
	{"forgets why they died", []int{120}, func() *broken {
		return &broken{imports: eachImport(func(t *outbox.Task) {
			if t.Reason != "" {
				t.Reason = outbox.ReasonUnhandled
			}
		})}
	}},
	{"counts what it passes over", []int{121}, func() *broken {
		return &broken{imports: func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error) {
			_, err := s.Import(ctx, tasks)
			return len(tasks), err
		}}
	}},
	{"refuses what it has", []int{121}, func() *broken {
		return &broken{imports: func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error) {
			n, err := s.Import(ctx, tasks)
			if err == nil && n < len(tasks) {
				err = outbox.ErrDuplicate
			}
			return n, err
		}}
	}},
	{"imports one by one", []int{122}, func() *broken {
		return &broken{imports: func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (n int, err error) {
			for i := range tasks {
				one, err := s.Import(ctx, tasks[i:i+1])
				if n += one; err != nil {
					return n, err
				}
			}
			return n, nil
		}}
	}},
	{"imports under new IDs", []int{123}, func() *broken {
		return &broken{imports: eachImport(func(t *outbox.Task) {
			if t.ID.Time() < outbox.MaxIDTime {
				_ = t.ID.SetTime(uint64(time.Now().Add(time.Hour).UnixMilli()))
			}
		})}
	}},
	{"never takes an ID again", []int{124}, func() *broken {
		seen := memo[outbox.ID, bool]{}
		return &broken{imports: func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error) {
			tasks = slices.DeleteFunc(tasks, func(t outbox.Task) bool { return seen.get(t.ID) })
			for _, t := range tasks {
				seen.put(t.ID, true)
			}
			return s.Import(ctx, tasks)
		}}
	}},
	{"keeps what was copied", []int{126}, func() *broken {
		return &broken{remove: func(_ outbox.Store, _ context.Context, ids []outbox.ID) (int, error) { return len(ids), nil }}
	}},
	{"sees no transaction", []int{125}, func() *broken {
		return &broken{imports: func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error) {
			return s.Import(outbox.WithTx(ctx, nil), tasks)
		}}
	}},
}

// eachImport changes the tasks of an Import before the store sees them.
func eachImport(change func(t *outbox.Task)) func(outbox.Importer, context.Context, []outbox.Task) (int, error) {
	return func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error) {
		for i := range tasks {
			change(&tasks[i])
		}
		return s.Import(ctx, tasks)
	}
}
