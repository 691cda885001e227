package storetest_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/storetest"
)

// broken is a store that obeys, but for what its functions do.
type broken struct {
	outbox.Store
	create  func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error
	claim   func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error)
	settle  func(s outbox.Store, ctx context.Context, outcomes []outbox.Outcome) error
	stats   func(s outbox.Store, ctx context.Context) (outbox.Stats, error)
	tasks   func(s outbox.Store, ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error]
	requeue func(s outbox.Store, ctx context.Context, ids []outbox.ID) (int, error)
	remove  func(s outbox.Store, ctx context.Context, ids []outbox.ID) (int, error)
	export  func(t *outbox.Task)
	imports func(s outbox.Importer, ctx context.Context, tasks []outbox.Task) (int, error)
	notify  func(f func()) (stop func())
	names   func(f func(names []string)) (stop func())
	watch   func(w outbox.Watch) (stop func())
	restart func(s outbox.Store)
	close   func(s outbox.Store) error
}

func (b *broken) Create(ctx context.Context, tasks []outbox.Task) error {
	if b.create != nil {
		return b.create(b.Store, ctx, tasks)
	}
	return b.Store.Create(ctx, tasks)
}

func (b *broken) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	if b.claim != nil {
		return b.claim(b.Store, ctx, req)
	}
	return b.Store.Claim(ctx, req)
}

func (b *broken) Settle(ctx context.Context, outcomes []outbox.Outcome) error {
	if b.settle != nil {
		return b.settle(b.Store, ctx, outcomes)
	}
	return b.Store.Settle(ctx, outcomes)
}

func (b *broken) Stats(ctx context.Context) (outbox.Stats, error) {
	if b.stats != nil {
		return b.stats(b.Store, ctx)
	}
	return b.Store.Stats(ctx)
}

func (b *broken) Tasks(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	if b.tasks != nil {
		return b.tasks(b.Store, ctx, f)
	}
	return b.Store.Tasks(ctx, f)
}

func (b *broken) Requeue(ctx context.Context, ids ...outbox.ID) (int, error) {
	if b.requeue != nil {
		return b.requeue(b.Store, ctx, ids)
	}
	return b.Store.Requeue(ctx, ids...)
}

func (b *broken) Delete(ctx context.Context, ids ...outbox.ID) (int, error) {
	if b.remove != nil {
		return b.remove(b.Store, ctx, ids)
	}
	return b.Store.Delete(ctx, ids...)
}

func (b *broken) Export(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		for t, err := range b.Store.(outbox.Exporter).Export(ctx, f) {
			if b.export != nil {
				b.export(&t)
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

func (b *broken) Import(ctx context.Context, tasks []outbox.Task) (int, error) {
	if b.imports != nil {
		return b.imports(b.Store.(outbox.Importer), ctx, slices.Clone(tasks))
	}
	return b.Store.(outbox.Importer).Import(ctx, tasks)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close(b.Store)
	}
	return b.Store.Close()
}

// deaf is broken and a Notifier.
type deaf struct{ *broken }

func (d deaf) Notify(f func()) (stop func()) { return d.notify(f) }

// wordless is broken and a NameNotifier.
type wordless struct{ deaf }

func (w wordless) NotifyNames(f func(names []string)) (stop func()) { return w.names(f) }

// blind is broken and a Watcher.
type blind struct{ *broken }

func (b blind) Watch(w outbox.Watch) (stop func()) { return b.watch(w) }

// harnessOf returns a harness of stores broken in one way.
func harnessOf(make func() *broken) storetest.Harness {
	wrap := func(b *broken) outbox.Store {
		switch {
		case b.names != nil:
			return wordless{deaf{b}}
		case b.notify != nil:
			return deaf{b}
		case b.watch != nil:
			return blind{b}
		}
		return b
	}
	return storetest.Harness{
		Open: func(t *testing.T) outbox.Store {
			b := make()
			b.Store = harness.Open(t)
			return wrap(b)
		},
		Reopen: func(t *testing.T, s outbox.Store) outbox.Store {
			var b *broken
			switch s := s.(type) {
			case *broken:
				b = s
			case deaf:
				b = s.broken
			case wordless:
				b = s.broken
			case blind:
				b = s.broken
			}
			b.Store = harness.Reopen(t, b.Store)
			if b.restart != nil {
				b.restart(b.Store)
			}
			return wrap(b)
		},
		Around: synctest.Test, // so that waiting for what never comes costs nothing
	}
}

// A suite that cannot fail proves nothing: each of these stores breaks the rules
// named, and each rule is broken by one of them.
func TestRun_FindsBrokenStores(t *testing.T) {
	found := map[int]bool{}
	for _, b := range slices.Concat(brokenStores, brokenParks, brokenImports, brokenNames, brokenWatchers) {
		t.Run(b.name, func(t *testing.T) {
			for _, number := range b.rules {
				report := storetest.Try(t, number, harnessOf(b.make))
				if report == "" {
					t.Errorf("rule %d has found nothing", number)
				}
				found[number] = true
			}
		})
	}
	for _, number := range storetest.Rules() {
		if !found[number] {
			t.Errorf("no store breaks rule %d", number)
		}
	}
}

func TestRun_PrintsItsRule(t *testing.T) {
	report := storetest.Try(t, 4, harnessOf(func() *broken {
		return &broken{create: func(outbox.Store, context.Context, []outbox.Task) error { return nil }}
	}))
	if want := "C04 rising IDs: P4: IDs rise within a call, from call to call and across a reopen."; !strings.Contains(report, want) {
		t.Errorf("the report does not say %q:\n%s", want, report)
	}
}

func TestRules_AreNumbered(t *testing.T) {
	before := 0
	for _, number := range storetest.Rules() {
		if number <= before {
			t.Fatalf("rule %d comes after rule %d", number, before)
		}
		before = number
	}
}

func TestAgree_FindsBrokenStores(t *testing.T) {
	h := harness
	h.Around = synctest.Test
	storetest.Agree(t, 1, 150, h, h)
	for _, name := range []string{
		"forgets Unique", "forgets LatestOnly", "mixes up keys", "takes any token", "Retry is free",
		"loses a task in a restart", "counts too much", "Requeue does nothing", "loses gaps in a restart",
		"knows no classes", "matches anything", "looks at the first alone", "takes the oldest first",
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(brokenStores, func(b brokenStore) bool { return b.name == name })
			for seed := range uint64(20) {
				if report := storetest.Disagree(t, seed, 150, h, harnessOf(brokenStores[i].make)); report != "" {
					return
				}
			}
			t.Errorf("20 seeds have found nothing")
		})
	}
}

// each changes the tasks of a Create before the store sees them, and puts back
// what the caller must not see changed.
func each(change func(t *outbox.Task)) func(outbox.Store, context.Context, []outbox.Task) error {
	return func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
		mine := slices.Clone(tasks)
		for i := range mine {
			change(&mine[i])
		}
		err := s.Create(ctx, mine)
		for i, t := range mine {
			tasks[i].ID, tasks[i].CreatedAt, tasks[i].DueAt, tasks[i].ExpiresAt = t.ID, t.CreatedAt, t.DueAt, t.ExpiresAt
			tasks[i].State, tasks[i].Token, tasks[i].Attempt, tasks[i].Reason = t.State, t.Token, t.Attempt, t.Reason
		}
		return err
	}
}

// eachOutcome changes the outcomes of a Settle.
func eachOutcome(change func(o *outbox.Outcome)) func(outbox.Store, context.Context, []outbox.Outcome) error {
	return func(s outbox.Store, ctx context.Context, outcomes []outbox.Outcome) error {
		mine := slices.Clone(outcomes)
		for i := range mine {
			change(&mine[i])
		}
		return s.Settle(ctx, mine)
	}
}

// list collects a listing; these stores have no errors of their own.
func list(s outbox.Store, f outbox.Filter) (all []outbox.Task) {
	for t, err := range s.Tasks(context.Background(), f) {
		if err == nil {
			all = append(all, t)
		}
	}
	return all
}

// putBack releases tasks that were claimed.
func putBack(s outbox.Store, tasks []outbox.Task) {
	var all []outbox.Outcome
	for _, t := range tasks {
		all = append(all, outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Release})
	}
	_ = s.Settle(context.Background(), all)
}

// swallow hides one error.
func swallow(err, hidden error) error {
	if errors.Is(err, hidden) {
		return nil
	}
	return err
}

// memo is a map for many goroutines: these stores are wrong, but not that wrong.
type memo[K comparable, V any] struct{ m sync.Map }

func (m *memo[K, V]) put(k K, v V) { m.m.Store(k, v) }

func (m *memo[K, V]) get(k K) (v V) {
	if held, ok := m.m.Load(k); ok {
		v = held.(V)
	}
	return v
}
