package storetest_test

import (
	"context"

	"github.com/goutbox/goutbox/outbox"
)

// brokenNames tell wrong names, or none.
var brokenNames = []brokenStore{
	{"tells of nothing", []int{127, 128, 129}, func() *broken {
		return &broken{
			notify: func(func()) (stop func()) { return func() {} },
			names:  func(func([]string)) (stop func()) { return func() {} },
		}
	}},
	{"tells what it accepts, and nothing else", []int{127, 128, 129}, func() *broken {
		var told func(names []string)
		return &broken{
			create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
				err := s.Create(ctx, tasks)
				for i := range tasks {
					if told != nil {
						told([]string{tasks[i].Name})
					}
				}
				return err
			},
			notify: func(func()) (stop func()) { return func() {} },
			names: func(f func(names []string)) (stop func()) {
				told = f
				return func() { told = nil }
			},
		}
	}},
}

// brokenWatchers tell what was not, or nothing.
var brokenWatchers = []brokenStore{
	{"watches nothing", []int{130}, func() *broken {
		return &broken{watch: func(outbox.Watch) (stop func()) { return func() {} }}
	}},
}
