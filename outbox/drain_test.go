package outbox_test

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("e", 500)
		f.enqueue("refused")
		f.enqueue("never")
		f.enqueue("later", outbox.WithDelay(time.Minute))
		for range 20 { // only when one is settled the next can be claimed
			f.enqueue("in line", outbox.WithKey("k"))
		}
		r := f.receiver(func(_ context.Context, e outbox.Event) error {
			time.Sleep(time.Millisecond)
			return map[string]error{"refused": errRefused, "never": outbox.Permanent(errRefused)}[e.Name]
		})
		n, err := f.Drain(t.Context(), r.publish)
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 520, Retried: 1, Dead: 1, Waiting: 2}, n)
		require.Less(t, f.clock(), time.Second, "no delay is waited for")

		n, err = f.Drain(t.Context(), r.publish)
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Waiting: 2}, n, "nothing is due")
		time.Sleep(time.Minute)
		n, err = f.Drain(t.Context(), answers(nil))
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 2}, n)
	})
}

// In an outage it returns at once, with what is needed to decide what to do.
func TestDrain_Outage(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
	}{
		{"marked", outbox.Unavailable(errRefused)},
		{"found", syscall.ECONNREFUSED},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				// With one at a time: an event that fails while another gets through is charged.
				f := setup(t, outbox.WithConcurrency(1))
				f.enqueueMany("e", 100)
				r := f.receiver(answers(nil, c.err))
				n, err := f.Drain(t.Context(), r.publish)
				require.ErrorIs(t, err, outbox.ErrUnavailable)
				require.ErrorIs(t, err, c.err)
				require.Equal(t, outbox.Drained{Delivered: 1, Waiting: 99}, n)
				require.Len(t, r.calls(), 2)
				require.Zero(t, f.stats().InFlight)
				for _, task := range f.tasks() {
					require.Zero(t, task.Attempts)
				}
				require.Empty(t, f.log.at(slog.LevelWarn), "it is returned, not logged")
			})
		})
	}
}

func TestDrain_ContextEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(2))
		f.enqueueMany("e", 100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n, err := f.Drain(ctx, func(context.Context, outbox.Event) error { time.Sleep(3 * time.Second); return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, outbox.Drained{Delivered: 8, Waiting: 92}, n)
		require.Equal(t, 12*time.Second, f.clock(), "what was under way has finished")
		require.Zero(t, f.stats().InFlight)

		n, err = f.Drain(ctx, answers(nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, outbox.Drained{Waiting: 92}, n)
	})
}

// On a link that drops packets the first sign takes as long as the publish timeout,
// and no second one is waited for.
func TestDrain_OutageTakesOneTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		f.enqueueMany("e", 100)
		n, err := f.Drain(t.Context(), obedient)
		require.ErrorIs(t, err, outbox.ErrUnavailable)
		require.Equal(t, outbox.Drained{Waiting: 100}, n)
		require.Equal(t, 30*time.Second, f.clock())
	})
}

// A publisher that hangs does not keep Drain from returning.
func TestDrain_Hangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueue("e")
		up := make(chan struct{})
		n, err := f.Drain(t.Context(), func(context.Context, outbox.Event) error { <-up; return nil })
		require.ErrorIs(t, err, outbox.ErrUnavailable)
		require.Zero(t, n.Delivered)
		require.Equal(t, 31*time.Second, f.clock())
		close(up)
		synctest.Wait()
		require.Equal(t, uint64(1), f.stats().Delivered, "late, but it counts")
	})
}

func TestDrain_StoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueue("e")
		f.store.onClaim = func(int) error { return errRefused }
		_, err := f.Drain(t.Context(), answers(nil))
		require.ErrorIs(t, err, errRefused)

		f.store.onClaim = nil
		f.store.onSettle = func(int) error { return errRefused }
		n, err := f.Drain(t.Context(), answers(nil))
		require.ErrorIs(t, err, errRefused)
		require.Zero(t, n.Delivered, "what was not settled is not counted")
		require.Less(t, f.clock(), time.Second)
	})
}

// Beside a Start: what that has claimed is its own affair.
func TestDrain_BesideStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.start(func(context.Context, outbox.Event) error { time.Sleep(10 * time.Second); return nil })
		f.enqueueMany("e", 200)
		synctest.Wait()
		n, err := f.Drain(t.Context(), answers(nil))
		require.NoError(t, err)
		require.Positive(t, n.Delivered)
		require.Zero(t, f.clock())
		time.Sleep(time.Hour)
		require.Equal(t, uint64(200), f.stats().Delivered)
	})
}
