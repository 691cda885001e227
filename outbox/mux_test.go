package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// startMux runs StartMux until stop is called.
func (f *fixture) startMux(m *outbox.Mux) (stop func()) {
	f.t.Helper()
	return f.run(func(ctx context.Context) error { return f.StartMux(ctx, m) })
}

// scribe notes which handler got what.
type scribe struct {
	mu  sync.Mutex
	got []string
}

func (s *scribe) as(handler string) outbox.Publisher {
	return func(_ context.Context, e outbox.Event) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, e.Name+"→"+handler)
		return nil
	}
}

// take returns the notes, in the order of the alphabet, and forgets them.
func (s *scribe) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	slices.Sort(got)
	return got
}

func TestMux_Routes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var s scribe
		m := outbox.NewMux()
		patterns := []string{"order.created", "order.*", "order.item.*", "order", "*", "a..*", "x.y"}
		for _, pattern := range patterns {
			require.NoError(t, m.Handle(pattern, s.as(pattern)))
		}
		f.startMux(m)
		want := []string{}
		for name, pattern := range map[string]string{
			"order.created": "order.created", "order.created.": "order.*", "order.paid": "order.*",
			"order.item.added": "order.item.*", "order.item": "order.*", "order.item.": "order.item.*",
			"order": "order", "orders": "*", "order.": "order.*", "orders.created": "*", ".": "*",
			"a.b": "*", "a..b": "a..*", "x": "*", "x.y": "x.y", "x.y.z": "*", "Order.created": "*", "*": "*", "order.*": "order.*",
		} {
			f.enqueue(name)
			want = append(want, name+"→"+pattern)
		}
		synctest.Wait()
		slices.Sort(want)
		require.Equal(t, want, s.take())
	})
}

func TestMux_BadPatterns(t *testing.T) {
	p, b := answers(nil), func(context.Context, []outbox.Event) []error { return nil }
	m := new(outbox.Mux)
	cloud := m.Destination("cloud")
	require.NoError(t, cloud.Handle("taken", p))
	require.NoError(t, cloud.Handle("taken.*", p))
	for _, pattern := range []string{
		"", "taken", "taken.*", "*.created", "a*", "a.*.b", "a.**", "**", "*a", ".*", "a.b*",
		strings.Repeat("n", outbox.MaxNameBytes+1),
	} {
		require.ErrorIs(t, cloud.Handle(pattern, p), outbox.ErrInvalid, "%q", pattern)
		require.ErrorIs(t, m.Handle(pattern, p), outbox.ErrInvalid, "%q", pattern)
		require.ErrorIs(t, m.HandleBatch(pattern, b), outbox.ErrInvalid, "%q", pattern)
	}
	require.ErrorIs(t, cloud.Handle("nil", nil), outbox.ErrInvalid)
	require.ErrorIs(t, cloud.HandleBatch("nil", nil), outbox.ErrInvalid)
	require.ErrorIs(t, m.Handle("nil", nil), outbox.ErrInvalid)
	require.ErrorIs(t, m.HandleBatch("nil", nil), outbox.ErrInvalid)
	require.ErrorIs(t, outbox.Handle[int](m, "nil", nil), outbox.ErrInvalid)
	require.ErrorIs(t, m.Destination("").Handle("no name", p), outbox.ErrInvalid)
	require.ErrorIs(t, cloud.HandleBatch("batch", b), outbox.ErrInvalid, "it takes single events")
	require.NoError(t, m.HandleBatch("batch", b))
	require.ErrorIs(t, m.Destination("batch").Handle("single", p), outbox.ErrInvalid, "it takes batches")
	for _, pattern := range []string{"nil", "no name", "single", "a", "goutbox.gap", "*"} {
		require.NoError(t, cloud.Handle(pattern, p), "what was refused is not taken: %q", pattern)
	}
	require.Same(t, cloud, m.Destination("cloud"))
}

func TestMux_BadMux(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueue("e")
		empty := outbox.NewMux()
		empty.Destination("has no pattern")
		for _, m := range []*outbox.Mux{nil, empty} {
			require.ErrorIs(t, f.StartMux(t.Context(), m), outbox.ErrInvalid)
			_, err := f.DrainMux(t.Context(), m)
			require.ErrorIs(t, err, outbox.ErrInvalid)
		}
		require.Equal(t, outbox.Waiting, f.task().State, "it would have buried everything")
	})
}

// While it runs a Mux stays as it is; afterwards it may change.
func TestMux_Frozen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var s scribe
		require.NoError(t, m.Handle("a", s.as("a")))
		stop, stop2 := f.startMux(m), f.startMux(m)
		synctest.Wait()
		require.ErrorIs(t, m.Handle("b", s.as("b")), outbox.ErrInvalid)
		require.ErrorIs(t, m.Destination("a").Handle("b", s.as("b")), outbox.ErrInvalid)
		stop()
		require.ErrorIs(t, m.Handle("b", s.as("b")), outbox.ErrInvalid, "the other runs still")
		stop2()
		require.NoError(t, m.Handle("b", s.as("b")))
		f.startMux(m)
		f.enqueue("b")
		synctest.Wait()
		require.Equal(t, []string{"b→b"}, s.take())
	})
}

// What nobody handles is parked, not skipped: no attempt is made, and none spent.
func TestMux_Unhandled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var s scribe
		require.NoError(t, m.Handle("known.*", s.as("known")))
		stop := f.startMux(m)
		f.enqueueMany("unknown", 250, outbox.WithMaxAttempts(1))
		f.enqueue("known.a")
		f.enqueue("keyed", outbox.WithKey("k"))
		f.enqueue("known.b", outbox.WithKey("k"))
		f.enqueue("later", outbox.WithDelay(time.Hour))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"known.a→known", "known.b→known"}, s.take())
		require.Equal(t, uint64(251), f.stats().Dead)
		require.Equal(t, uint64(1), f.stats().Pending, "not before it is due")
		time.Sleep(time.Hour)
		require.Zero(t, f.stats().Pending)
		for _, task := range f.tasks() {
			require.Equal(t, outbox.Dead, task.State)
			require.Equal(t, outbox.ReasonUnhandled, task.Reason)
			require.Zero(t, task.Attempts)
			require.Len(t, task.Failures, 1)
			require.Contains(t, task.Failures[0].Error, "no pattern of the mux")
			require.Zero(t, task.Failures[0].Attempt)
		}
		dead := f.log.at(slog.LevelError, "event", "reason")
		require.Len(t, dead, 252)
		require.Equal(t, "outbox: event is dead event=unknown reason=no handler", dead[0])

		// With a handler they can go.
		stop()
		require.NoError(t, m.Handle("*", s.as("rest")))
		f.startMux(m)
		var ids []outbox.ID
		for _, task := range f.tasks() {
			ids = append(ids, task.ID)
		}
		_, err := f.Requeue(t.Context(), ids...)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, s.take(), 252)
		require.Zero(t, f.stats().Dead)
		names := []string{}
		for _, st := range f.Destinations() {
			names = append(names, fmt.Sprint(st.Name, " ", st.Delivered, " ", st.Dead))
		}
		require.Equal(t, []string{" 0 0", "* 252 0", "known.* 2 0"}, names)
	})
}

// One dead destination among three does not stop the others, and costs its events
// nothing.
func TestMux_DeadDestination(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var dead link
		dead.down.Store(true)
		require.NoError(t, m.Handle("dead", dead.answer))
		require.NoError(t, m.Handle("hangs", func(ctx context.Context, e outbox.Event) error {
			if dead.down.Load() {
				return obedient(ctx, e)
			}
			return nil
		}))
		r := f.receiver(nil)
		require.NoError(t, m.Handle("healthy", r.publish))
		f.enqueueMany("dead", 200)
		f.enqueueMany("hangs", 200)
		f.startMux(m)
		for range 100 {
			r.clear()
			at := f.clock()
			f.enqueue("healthy")
			f.enqueue("dead")
			time.Sleep(10 * time.Minute)
			require.Equal(t, []time.Duration{at}, r.times(), "at once")
		}
		require.Equal(t, uint64(100), f.stats().Delivered)
		for _, task := range f.tasks() {
			require.Zero(t, task.Attempts)
		}
		gates := map[string]outbox.GateState{}
		for _, st := range f.Destinations() {
			gates[st.Name] = st.Gate
		}
		require.Equal(t, map[string]outbox.GateState{
			"": outbox.GateOpen, "healthy": outbox.GateOpen, "dead": outbox.GateShut, "hangs": outbox.GateShut,
		}, gates)
		lines := f.log.at(slog.LevelWarn, "destination")
		slices.Sort(lines)
		require.Equal(t, []string{
			"outbox: destination unavailable, waiting and probing destination=dead",
			"outbox: destination unavailable, waiting and probing destination=hangs",
		}, lines)

		dead.down.Store(false)
		f.Wake()
		time.Sleep(2 * time.Minute)
		require.Equal(t, uint64(600), f.stats().Delivered)
		require.Zero(t, f.stats().Pending)
	})
}

// Options of a destination override those of New, for it alone.
func TestMux_Options(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(3), outbox.WithPublishTimeout(time.Minute))
		m := outbox.NewMux()
		slow := func(ctx context.Context, e outbox.Event) error {
			end, _ := ctx.Deadline()
			time.Sleep(10 * time.Second)
			require.Equal(t, e.Headers["timeout"], (time.Until(end) + 10*time.Second).String())
			return outbox.Permanent(errRefused)
		}
		one := m.Destination("one", outbox.WithConcurrency(7))
		m.Destination("one", outbox.WithConcurrency(1), nil, outbox.WithPublishTimeout(15*time.Second))
		a, b := f.receiver(slow), f.receiver(slow)
		require.NoError(t, one.Handle("a", a.publish))
		require.NoError(t, m.Handle("b", b.publish))
		c := f.receiver(answers(errRefused))
		require.NoError(t, m.Handle("c", c.publish, outbox.WithBackoff(outbox.Schedule(time.Hour))))
		f.enqueueMany("a", 3, outbox.WithHeader("timeout", "15s"))
		f.enqueueMany("b", 4, outbox.WithHeader("timeout", "1m0s"))
		f.enqueue("c")
		f.startMux(m)
		time.Sleep(3 * time.Hour)
		s := time.Second
		require.Equal(t, []time.Duration{0, 10 * s, 20 * s}, a.times())
		require.Equal(t, []time.Duration{0, 0, 0, 10 * s}, b.times())
		require.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour}, c.times())
	})
}

// Keys keep their order across destinations.
func TestMux_Keys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var mu sync.Mutex
		got := map[string][]string{}
		var l link
		note := func(ctx context.Context, e outbox.Event) error {
			if err := l.answer(ctx, e); e.Name == "b" && err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			got[e.Key] = append(got[e.Key], e.Headers["n"])
			return nil
		}
		for _, name := range []string{"a", "b", "c"} {
			require.NoError(t, m.Handle(name, note))
		}
		want := map[string][]string{}
		stop := f.startMux(m)
		l.down.Store(true)
		for i := range 300 {
			n, key := fmt.Sprint(i), fmt.Sprint(i%7)
			want[key] = append(want[key], n)
			f.enqueue(string(rune('a'+i%3)), outbox.WithKey(key), outbox.WithHeader("n", n))
		}
		time.Sleep(time.Hour)
		l.down.Store(false)
		time.Sleep(time.Hour)
		stop()
		require.Equal(t, want, got)
	})
}

// A destination of batches calls each of its publishers with what is its own.
func TestMux_Batches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		d := m.Destination("batches", outbox.WithConcurrency(1))
		var mu sync.Mutex
		sizes := map[string][]int{}
		for _, pattern := range []string{"a", "b.*"} {
			require.NoError(t, d.HandleBatch(pattern, func(_ context.Context, events []outbox.Event) []error {
				mu.Lock()
				defer mu.Unlock()
				errs := make([]error, len(events))
				for i, e := range events {
					if e.Headers["i"] == "7" {
						errs[i] = outbox.Permanent(errors.New("seven"))
					}
					require.True(t, strings.HasPrefix(pattern, e.Name[:1]))
				}
				sizes[pattern] = append(sizes[pattern], len(events))
				return errs
			}))
		}
		for i := range 120 {
			f.enqueue([]string{"a", "b.x", "b.y"}[i%3], outbox.WithHeader("i", fmt.Sprint(i)))
		}
		stop := f.startMux(m)
		time.Sleep(time.Second)
		stop()
		require.Equal(t, map[string][]int{"a": {34, 6}, "b.*": {66, 14}}, sizes)
		require.Equal(t, uint64(119), f.stats().Delivered)
		require.Equal(t, "7", f.task().Headers["i"])
	})
}

// A store that does not obey Match leads nothing astray.
func TestMux_StoreIgnoresMatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.Outbox = outbox.New(newBacklog(), outbox.WithLogger(slog.New(slog.DiscardHandler)))
		var s scribe
		m := outbox.NewMux()
		require.NoError(t, m.Handle("a", s.as("a")))
		require.NoError(t, m.Handle("b", s.as("b")))
		require.NoError(t, m.HandleBatch("c", func(_ context.Context, events []outbox.Event) []error {
			for _, e := range events {
				require.NoError(t, s.as("c")(t.Context(), e))
			}
			return nil
		}))
		f.startMux(m)
		want := []string{}
		for i := range 400 {
			name := []string{"a", "b", "c", "d"}[i%4]
			f.enqueue(name)
			if name != "d" {
				want = append(want, name+"→"+name)
			}
		}
		time.Sleep(time.Second)
		slices.Sort(want)
		require.Equal(t, want, s.take())
		st, err := f.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(100), st.Dead)
	})
}

// The first destination whose store fails for good ends all of them.
func TestMux_StoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		require.NoError(t, m.Handle("a", answers(nil)))
		require.NoError(t, m.Handle("b", answers(nil)))
		f.store.onClaim = func(call int) error {
			if call == 5 {
				return outbox.ErrPoisoned
			}
			return nil
		}
		ended := make(chan error, 1)
		go func() { ended <- f.StartMux(t.Context(), m) }()
		time.Sleep(time.Second)
		f.enqueue("a")
		require.ErrorIs(t, <-ended, outbox.ErrPoisoned)
		require.NoError(t, m.Handle("c", answers(nil)), "it runs no more")
	})
}

// Observers hear of the death, and that there was no attempt.
func TestMux_UnhandledIsObserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var attempts, dead atomic.Int64
		f := setup(t, outbox.WithObserver(outbox.Observer{
			Attempt: func(outbox.Attempt) { attempts.Add(1) },
			Dead: func(a outbox.Attempt) {
				require.Equal(t, outbox.ReasonUnhandled, a.Reason)
				require.Empty(t, a.Destination)
				dead.Add(1)
			},
		}))
		m := outbox.NewMux()
		require.NoError(t, m.Handle("known", answers(nil)))
		f.startMux(m)
		f.enqueueMany("unknown", 3)
		f.enqueueMany("known", 2)
		synctest.Wait()
		require.Equal(t, []int64{2, 3}, []int64{attempts.Load(), dead.Load()})
		require.Zero(t, f.Destinations()[0].Running, "Start does not run")
	})
}

func TestMux_Typed(t *testing.T) {
	type order struct{ ID int }
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var got order
		var id outbox.ID
		require.NoError(t, outbox.Handle(m, "order.*", func(_ context.Context, o order, e outbox.Event) error {
			got, id = o, e.ID
			return nil
		}))
		stop := f.startMux(m)
		want, err := f.Enqueue(t.Context(), "order.created", order{7})
		require.NoError(t, err)
		_, err = f.Enqueue(t.Context(), "order.broken", []byte(`{"ID": "seven"}`))
		require.NoError(t, err)
		synctest.Wait()
		stop()
		require.Equal(t, order{7}, got)
		require.Equal(t, want, id)
		task := f.task()
		require.Equal(t, outbox.ReasonPermanent, task.Reason)
		require.Contains(t, task.Failures[0].Error, "order.broken")
		require.Nil(t, outbox.Typed[int](nil))
	})
}
