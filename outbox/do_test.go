package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

func TestDo_PublishesInline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var stored outbox.Task
		r := f.receiver(func(context.Context, outbox.Event) error {
			stored = f.task() // durable before it is published
			return nil
		})
		require.NoError(t, f.Do(t.Context(), "order.created", map[string]int{"id": 7}, r.publish, outbox.WithHeader("a", "b")))
		require.Equal(t, outbox.InFlight, stored.State)
		e := r.calls()[0].event
		require.Equal(t, stored.ID, e.ID)
		require.Equal(t, stored.CreatedAt, e.CreatedAt)
		require.Equal(t, 1, e.Attempt)
		require.Equal(t, "order.created", e.Name)
		require.Equal(t, `{"id":7}`, string(e.Payload))
		require.Equal(t, "application/json", e.ContentType)
		require.Equal(t, map[string]string{"a": "b"}, e.Headers)
		require.Equal(t, uint64(1), f.stats().Delivered)
	})
}

// What Do could not publish, Start does: the first retry is the second attempt.
func TestDo_ThenRetried(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		attempts int // spent by Do
		state    outbox.State
		times    []time.Duration // of Start's calls
	}{
		{"refused", errRefused, 1, outbox.Waiting, []time.Duration{time.Second}},
		{"put off", outbox.RetryAfter(errRefused, time.Minute), 1, outbox.Waiting, []time.Duration{time.Minute}},
		{"permanent", outbox.Permanent(errRefused), 1, outbox.Dead, nil},
		{"panic", nil, 1, outbox.Waiting, []time.Duration{time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				r := f.receiver(nil)
				f.start(r.publish)
				synctest.Wait()
				var first outbox.ID
				require.NoError(t, f.Do(t.Context(), "e", nil, func(_ context.Context, e outbox.Event) error {
					first = e.ID
					if c.err == nil {
						panic("boom")
					}
					return c.err
				}))
				task := f.task()
				require.Equal(t, c.state, task.State)
				require.Equal(t, c.attempts, task.Attempts)
				time.Sleep(time.Hour)
				require.Equal(t, c.times, r.times())
				for _, call := range r.calls() {
					require.Equal(t, first, call.event.ID)
					require.Equal(t, 2, call.event.Attempt)
				}
			})
		})
	}
}

func TestDo_Unavailable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		require.NoError(t, f.Do(t.Context(), "e", nil, func(context.Context, outbox.Event) error {
			return outbox.Unavailable(errRefused)
		}, outbox.WithMaxAttempts(1)))
		require.Zero(t, f.task().Attempts)
		r := f.receiver(nil)
		f.start(r.publish)
		time.Sleep(time.Minute)
		require.LessOrEqual(t, r.times()[0], time.Second)
		require.Equal(t, 1, r.calls()[0].event.Attempt)
	})
}

// The caller's patience is no property of the event.
func TestDo_ContextEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []outbox.EventOption
	}{
		{"stored first", nil},
		{"published first", []outbox.EventOption{outbox.PublishFirst()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				publish := func(ctx context.Context, e outbox.Event) error {
					end, ok := ctx.Deadline()
					require.True(t, ok)
					require.Equal(t, time.Second, time.Until(end))
					return obedient(ctx, e)
				}
				require.NoError(t, f.Do(ctx, "e", nil, publish, append(c.opts, outbox.WithMaxAttempts(1))...))
				require.Equal(t, time.Second, f.clock())
				task := f.task()
				require.Equal(t, outbox.Waiting, task.State)
				require.Zero(t, task.Attempts)
				require.False(t, task.DueAt.After(time.Now()))
			})
		})
	}
}

func TestDo_Timeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithPublishTimeout(5*time.Second))
		require.NoError(t, f.Do(t.Context(), "e", nil, obedient))
		require.Equal(t, 5*time.Second, f.clock())
		require.Zero(t, f.task().Attempts, "a timeout says nothing of the event")
	})
}

// Out of turn, or not yet due: Do stores, and leaves the rest to Start.
func TestDo_NotNow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		never := func(context.Context, outbox.Event) error { t.Error("published"); return nil }
		f.enqueue("head", outbox.WithKey("k"))
		require.NoError(t, f.Do(t.Context(), "behind", nil, never, outbox.WithKey("k"), outbox.PublishFirst()))
		require.NoError(t, f.Do(t.Context(), "later", nil, never, outbox.WithDelay(time.Minute), outbox.PublishFirst()))
		require.Len(t, f.tasks(), 3)
		r := f.receiver(nil)
		f.start(r.publish)
		time.Sleep(time.Hour)
		require.Equal(t, "head behind later", r.names())
	})
}

// The next of a key is published as soon as Do has settled the head.
func TestDo_LetsTheNextOfItsKeyThrough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(nil)
		f.start(r.publish)
		require.NoError(t, f.Do(t.Context(), "head", nil, func(context.Context, outbox.Event) error {
			f.enqueue("next", outbox.WithKey("k"))
			time.Sleep(time.Second)
			return nil
		}, outbox.WithKey("k")))
		time.Sleep(time.Hour)
		require.Equal(t, "next", r.names())
		require.Equal(t, []time.Duration{time.Second}, r.times())
	})
}

func TestDo_StoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(nil)
		f.store.onCreate = func([]outbox.Task) error { return outbox.ErrFull }
		require.ErrorIs(t, f.Do(t.Context(), "e", nil, r.publish), outbox.ErrFull)
		require.Empty(t, r.calls())

		// It is safe once it is stored, whatever comes of settling it.
		f.store.onCreate = nil
		f.store.onSettle = func(int) error { return errRefused }
		require.NoError(t, f.Do(t.Context(), "e", nil, r.publish))
		require.Len(t, f.log.at(slog.LevelWarn), 1)
		f.store.onSettle = nil
		f.start(r.publish)
		time.Sleep(time.Hour)
		require.Len(t, r.calls(), 2, "published again when the lease has run out (P2)")
		require.Equal(t, r.calls()[0].event.ID, r.calls()[1].event.ID)
	})
}

func TestDo_PublishFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(answers(nil, errRefused, outbox.Permanent(errRefused), outbox.Unavailable(errRefused)))
		do := func() {
			t.Helper()
			require.NoError(t, f.Do(t.Context(), "e", "p", r.publish, outbox.PublishFirst()))
		}
		do()
		require.Zero(t, f.stats().Accepted, "published, and never stored")
		require.Zero(t, f.store.settles)

		do()
		task := f.task()
		require.Equal(t, r.calls()[1].event.ID, task.ID, "stored under the ID it was published with (P2)")
		require.Equal(t, 1, task.Attempts, "the attempt counts")
		require.Equal(t, "refused", task.Failures[0].Error)
		require.Equal(t, time.Second, time.Until(task.DueAt))

		do()
		do()
		var states []outbox.State
		for _, task := range f.tasks() {
			states = append(states, task.State)
		}
		require.ElementsMatch(t, []outbox.State{outbox.Waiting, outbox.Dead, outbox.Waiting}, states)
		for i, call := range r.calls() {
			require.False(t, call.event.ID.IsZero())
			require.Equal(t, 1, call.event.Attempt)
			for _, other := range r.calls()[:i] {
				require.Equal(t, 1, call.event.ID.Compare(other.event.ID), "IDs rise")
			}
		}
	})
}

// What neither could be published nor stored is the caller's again.
func TestDo_PublishFirstStoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.store.onCreate = func([]outbox.Task) error { return outbox.ErrDiskFull }
		err := f.Do(t.Context(), "e", nil, answers(errors.New("no route")), outbox.PublishFirst())
		require.ErrorIs(t, err, outbox.ErrDiskFull)
		require.ErrorContains(t, err, "no route")
	})
}

// PublishFirst gives way to what needs the store first.
func TestDo_PublishFirstIsNotHonoured(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  outbox.EventOption
	}{
		{"with a key", outbox.WithKey("k")},
		{"unique", outbox.WithUnique("u")},
		{"latest only", outbox.WithLatestOnly("l")},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				r := f.receiver(nil)
				require.NoError(t, f.Do(t.Context(), "e", nil, r.publish, outbox.PublishFirst(), c.opt))
				require.Len(t, r.calls(), 1)
				require.Equal(t, uint64(1), f.stats().Accepted)
			})
		})
	}
}

// txStore joins any transaction: what it is handed becomes visible at commit.
type txStore struct {
	*mem.Store
	pending []outbox.Task
}

func (s *txStore) Create(ctx context.Context, tasks []outbox.Task) error {
	if outbox.TxFrom(ctx) == nil {
		return s.Store.Create(ctx, tasks)
	}
	s.pending = append(s.pending, tasks...)
	return nil
}

func (s *txStore) commit(ctx context.Context) error { return s.Store.Create(ctx, s.pending) }

func TestDo_InATransaction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		s := &txStore{Store: f.store.Store}
		f.Outbox = outbox.New(s, quiet(), outbox.WithConcurrency(1)) // for the order
		r := f.receiver(nil)
		f.start(r.publish)
		never := func(context.Context, outbox.Event) error { t.Error("published before the commit"); return nil }
		ctx := outbox.WithTx(t.Context(), "tx")
		require.NoError(t, f.Do(ctx, "one", nil, never))
		require.NoError(t, f.Do(ctx, "two", nil, never, outbox.PublishFirst()))
		for _, task := range s.pending {
			require.Zero(t, task.Lease)
		}
		time.Sleep(time.Hour)
		require.Empty(t, r.calls())
		require.NoError(t, s.commit(t.Context()))
		time.Sleep(time.Hour)
		require.Equal(t, "one two", r.names())
		require.Equal(t, []time.Duration{time.Hour, time.Hour}, r.times())
	})
}

func TestDo_TxUnsupported(t *testing.T) {
	ob := outbox.New(mem.New(), quiet())
	ctx := outbox.WithTx(t.Context(), "tx")
	require.ErrorIs(t, ob.Do(ctx, "e", nil, answers(nil)), outbox.ErrTxUnsupported)
	require.ErrorIs(t, ob.Do(ctx, "e", nil, answers(nil), outbox.PublishFirst()), outbox.ErrTxUnsupported)
	_, err := ob.Enqueue(ctx, "e", nil)
	require.ErrorIs(t, err, outbox.ErrTxUnsupported)
}
