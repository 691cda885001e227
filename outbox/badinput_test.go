package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// What makes no sense falls back to the default, and harms nobody.
func TestEventOptions_FallBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   outbox.EventOption
		check func(t *testing.T, task outbox.Task)
	}{
		{"priority above High", outbox.WithPriority(outbox.High + 1), func(t *testing.T, task outbox.Task) { require.Equal(t, outbox.Normal, task.Priority) }},
		{"priority below Low", outbox.WithPriority(outbox.Low - 1), func(t *testing.T, task outbox.Task) { require.Equal(t, outbox.Normal, task.Priority) }},
		{"key policy", outbox.WithKeyPolicy(outbox.ParkWholeKey + 1), func(t *testing.T, task outbox.Task) { require.Equal(t, outbox.BlockKey, task.KeyPolicy) }},
		{"attempts", outbox.WithMaxAttempts(-7), func(t *testing.T, task outbox.Task) { require.Equal(t, 3, task.MaxAttempts) }},
		{"delay", outbox.WithDelay(-time.Hour), func(t *testing.T, task outbox.Task) { require.Equal(t, time.Now().UTC(), task.DueAt) }},
		{"TTL", outbox.WithTTL(-time.Hour), func(t *testing.T, task outbox.Task) { require.Zero(t, task.ExpiresAt) }},
		{"unique for", func(t *outbox.Task) { outbox.WithUnique("u")(t); outbox.WithUniqueFor(-time.Hour)(t) },
			func(t *testing.T, task outbox.Task) { require.Zero(t, task.UniqueFor) }},
		{"unique for, without a key", outbox.WithUniqueFor(time.Hour), func(t *testing.T, task outbox.Task) { require.Zero(t, task.UniqueFor) }},
		{"backoff", outbox.WithEventBackoff(-1, -1), func(t *testing.T, task outbox.Task) { require.Zero(t, task.RetryBase+task.RetryMax) }},
		{"backoff, max below base", outbox.WithEventBackoff(time.Hour, time.Second), func(t *testing.T, task outbox.Task) { require.Equal(t, time.Hour, task.RetryMax) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.enqueue("e", c.opt)
				c.check(t, f.task())
				_, err := f.Drain(t.Context(), answers(nil))
				require.NoError(t, err)
				require.Equal(t, uint64(1), f.stats().Delivered)
			})
		})
	}
}

// So it is with the options of New.
func TestOptions_FallBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, nil, outbox.WithConcurrency(-1), outbox.WithLoopInterval(-1), outbox.WithPublishTimeout(-1), outbox.WithBackoff(nil),
			outbox.WithLogger(nil), outbox.WithMaxPayload(-1), outbox.WithBatch(-1, -1, -1), outbox.WithMaxAge(-1), outbox.WithHeaders(nil),
			outbox.WithObserver(outbox.Observer{}), outbox.WithLogger(quietLogger))
		f.enqueueMany("e", 50)
		r := f.receiver(func(ctx context.Context, _ outbox.Event) error {
			end, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 30*time.Second, time.Until(end))
			time.Sleep(time.Second)
			return nil
		})
		f.start(r.publish)
		time.Sleep(500 * time.Millisecond)
		require.Len(t, r.calls(), 16)
		require.NoError(t, f.Health(t.Context()))
		time.Sleep(time.Minute)
		require.Equal(t, uint64(50), f.stats().Delivered)
	})
}

// A name that begins as the outbox's own do is refused, an unknown ID is reported.
func TestBadInput(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		_, err := f.Enqueue(t.Context(), outbox.GapName, nil)
		require.ErrorIs(t, err, outbox.ErrInvalid)
		_, err = f.EnqueueBatch(t.Context(), []outbox.Event{{Name: "fine"}, {Name: "goutbox.mine"}})
		require.ErrorIs(t, err, outbox.ErrInvalid)
		require.ErrorContains(t, err, "event 1 of 2")
		require.ErrorIs(t, f.Do(t.Context(), "goutbox.", nil, answers(nil)), outbox.ErrInvalid)
		require.Zero(t, f.stats().Accepted)

		waits := f.enqueue("waits")
		for _, ids := range [][]outbox.ID{{{}}, {{1}}, {waits}, {waits, waits}} {
			n, err := f.Requeue(t.Context(), ids...)
			require.ErrorIs(t, err, outbox.ErrNotFound)
			require.Zero(t, n)
		}
		n, err := f.Requeue(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		require.ErrorIs(t, f.Start(t.Context(), nil), outbox.ErrInvalid)
		require.ErrorIs(t, f.StartBatch(t.Context(), nil), outbox.ErrInvalid)
		_, err = f.Drain(t.Context(), nil)
		require.ErrorIs(t, err, outbox.ErrInvalid)
		require.ErrorIs(t, f.Do(t.Context(), "e", nil, nil), outbox.ErrInvalid)
	})
}

// A publisher may call whatever it likes: no lock is held meanwhile.
func TestPublisher_CallsTheOutbox(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		dead := f.enqueue("dead")
		_, err := f.Drain(t.Context(), answers(outbox.Permanent(errRefused)))
		require.NoError(t, err)
		other := f.enqueue("other", outbox.WithDelay(time.Hour))
		r := f.receiver(nil)
		r.answer = func(ctx context.Context, e outbox.Event) error {
			if e.Name != "first" {
				return nil
			}
			_, err := f.Enqueue(ctx, "enqueued", nil)
			require.NoError(t, err)
			_, err = f.EnqueueBatch(ctx, []outbox.Event{{Name: "batch"}})
			require.NoError(t, err)
			require.NoError(t, f.Do(ctx, "done", nil, r.publish))
			f.stats()
			f.Destinations()
			require.NoError(t, f.Health(ctx))
			require.Len(t, f.tasks(), 5)
			n, err := f.Requeue(ctx, dead)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = f.Delete(ctx, other)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			_, err = f.Delete(ctx, e.ID)
			require.ErrorIs(t, err, outbox.ErrInFlight)
			f.Pause()
			f.Resume()
			f.Wake()
			drained, err := f.Drain(ctx, r.publish)
			require.NoError(t, err)
			require.Equal(t, 3, drained.Delivered)
			return nil
		}
		f.start(r.publish)
		f.enqueue("first")
		time.Sleep(time.Second)
		require.Empty(t, f.tasks())
		require.Equal(t, uint64(5), f.stats().Delivered)
	})
}
