package storetest_test

import (
	"context"

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
}
