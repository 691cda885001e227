package storetest_test

import (
	"context"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// brokenParks break the rules about parked keys and about UniqueFor.
var brokenParks = []brokenStore{
	{"parks no key", []int{90, 91, 92, 93, 95}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.KeyPolicy = min(t.KeyPolicy, outbox.ParkKey) })}
	}},
	{"lets go of parked keys in a restart", []int{91}, func() *broken {
		return &broken{restart: inFile(func(c *content) {
			for _, r := range c.Rows {
				if r.State == outbox.Dead {
					r.KeyPolicy = outbox.ParkKey
				}
			}
		})}
	}},
	{"deletes no dead letter", []int{93}, func() *broken {
		return &broken{remove: func(s outbox.Store, ctx context.Context, ids []outbox.ID) (int, error) {
			dead := list(s, outbox.Filter{States: []outbox.State{outbox.Dead}})
			some := slices.DeleteFunc(slices.Clone(ids), func(id outbox.ID) bool {
				return slices.ContainsFunc(dead, func(t outbox.Task) bool { return t.ID == id })
			})
			n, err := s.Delete(ctx, some...)
			return n + len(ids) - len(some), err
		}}
	}},
	{"parks with every death", []int{94}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.KeyPolicy = outbox.ParkWholeKey })}
	}},
	{"parks what was not asked for", []int{95}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			all, _ := s.Claim(ctx, outbox.ClaimRequest{Max: 1000})
			putBack(s, all.Tasks)
			return s.Claim(ctx, req)
		}}
	}},
	{"forgets UniqueFor", []int{100, 101, 102, 103}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.UniqueFor = 0 })}
	}},
	{"forgets in a restart what was delivered", []int{101}, func() *broken {
		return &broken{restart: inFile(func(c *content) { c.Spent = nil })}
	}},
}

// inFile changes the content of the file.
func inFile(change func(c *content)) func(outbox.Store) {
	return func(s outbox.Store) {
		_ = s.(*fileStore).call(context.Background(), func(c *content, _ time.Time) error {
			change(c)
			return nil
		})
	}
}
