package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

func TestDrainMux(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var s scribe
		require.NoError(t, m.Handle("a", s.as("a")))
		require.NoError(t, m.Handle("b", s.as("b")))
		require.NoError(t, m.Handle("c", answers(errRefused)))
		require.NoError(t, m.HandleBatch("d", takesAllOf))
		f.enqueueMany("d", 300)
		f.enqueueMany("unknown", 2)
		f.enqueue("a", outbox.WithDelay(time.Hour))
		f.enqueue("c")
		for range 10 { // each frees the next, of the other destination
			f.enqueue("a", outbox.WithKey("k"))
			f.enqueue("b", outbox.WithKey("k"))
		}
		n, err := f.DrainMux(t.Context(), m)
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 320, Retried: 1, Dead: 2, Waiting: 2}, n)
		require.Zero(t, f.clock(), "it waits for nothing")
		require.Len(t, s.take(), 20)

		n, err = f.DrainMux(t.Context(), m)
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Waiting: 2}, n)
		require.NoError(t, m.Handle("e", answers(nil)), "it runs no more")
	})
}

func takesAllOf(context.Context, []outbox.Event) []error { return nil }

// In an outage of one destination the others are drained, and the error names it. It
// returns at once: after a probe, if that is slow, and never later.
func TestDrainMux_Outage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		var s scribe
		require.NoError(t, m.Handle("dead", answers(outbox.Unavailable(errRefused))))
		require.NoError(t, m.Handle("hangs", obedient, outbox.WithPublishTimeout(3*time.Second)))
		require.NoError(t, m.Handle("healthy", s.as("healthy")))
		f.enqueueMany("dead", 100)
		f.enqueueMany("hangs", 100)
		for range 5 {
			f.enqueueMany("healthy", 100)
		}
		n, err := f.DrainMux(t.Context(), m)
		require.ErrorIs(t, err, outbox.ErrUnavailable)
		require.ErrorContains(t, err, `destination "dead": refused`)
		require.ErrorContains(t, err, `destination "hangs": context deadline exceeded`)
		require.Equal(t, outbox.Drained{Delivered: 500, Waiting: 200}, n)
		require.Equal(t, 3*time.Second, f.clock())
		for _, task := range f.tasks() {
			require.Equal(t, outbox.Waiting, task.State)
			require.Zero(t, task.Attempts)
		}
	})
}

func TestDrainMux_Ends(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(f *fixture, cancel context.CancelFunc)
		want error
	}{
		{"context", func(_ *fixture, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"pause", func(f *fixture, _ context.CancelFunc) { f.Pause() }, outbox.ErrPaused},
		{"store", func(f *fixture, _ context.CancelFunc) {
			f.store.onSettle = func(int) error { return outbox.ErrPoisoned }
		}, outbox.ErrPoisoned},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				m := outbox.NewMux()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := make(chan struct{}, 1)
				require.NoError(t, m.Handle("a", func(context.Context, outbox.Event) error {
					<-began
					c.end(f, cancel)
					return nil
				}, outbox.WithConcurrency(1)))
				require.NoError(t, m.Handle("b", func(context.Context, outbox.Event) error {
					began <- struct{}{}
					time.Sleep(time.Second)
					return nil
				}, outbox.WithConcurrency(1)))
				f.enqueueMany("a", 1)
				f.enqueueMany("b", 3)
				_, err := f.DrainMux(ctx, m)
				require.ErrorIs(t, err, c.want)
				require.Equal(t, time.Second, f.clock(), "what was under way has finished")
			})
		})
	}
}

// Limits are those of each destination.
func TestMux_Limiter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		a, b, c := f.receiver(nil), f.receiver(nil), f.receiver(nil)
		require.NoError(t, m.Handle("a", a.publish, outbox.WithLimiter(every(time.Minute))))
		require.NoError(t, m.Handle("b", b.publish, outbox.WithLimiter(every(time.Second))))
		require.NoError(t, m.Handle("c", c.publish))
		for _, name := range []string{"a", "b", "c"} {
			f.enqueueMany(name, 10)
		}
		f.startMux(m)
		time.Sleep(time.Hour)
		last := func(r *receiver) string { return fmt.Sprint(len(r.times()), " ", r.times()[9]) }
		require.Equal(t, []string{"10 9m0s", "10 9s", "10 0s"}, []string{last(a), last(b), last(c)})
	})
}
