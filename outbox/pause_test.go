package outbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// Pause lets the attempts under way end, begins no other, and goes on accepting;
// Resume goes on at once.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(2))
		begun, release := make(chan string, 10), make(chan struct{})
		f.start(func(_ context.Context, e outbox.Event) error {
			begun <- e.Name
			<-release
			return nil
		})
		for _, name := range []string{"a", "b", "c", "d"} {
			f.enqueue(name)
		}
		synctest.Wait()
		require.Len(t, begun, 2)
		f.Pause()
		f.Pause()
		require.True(t, f.Paused())
		release <- struct{}{}
		release <- struct{}{}
		f.enqueue("e")
		f.Wake()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, begun, 2, "nothing was begun while paused")
		st := f.stats()
		require.EqualValues(t, 2, st.Delivered)
		require.EqualValues(t, 3, st.Pending)
		require.Zero(t, st.InFlight, "what was not begun waits again")

		close(release)
		f.Resume()
		synctest.Wait()
		require.EqualValues(t, 5, f.stats().Delivered)
		require.Equal(t, time.Hour, f.clock(), "at once")
	})
}

// An outbox may be paused before Start, and a paused Drain says so.
func TestPause_Drain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.Pause()
		f.enqueue("a")
		never := func(context.Context, outbox.Event) error {
			t.Error("published")
			return nil
		}
		n, err := f.Drain(t.Context(), never)
		require.ErrorIs(t, err, outbox.ErrPaused)
		require.Equal(t, outbox.Drained{Waiting: 1}, n)
		require.NoError(t, f.Do(t.Context(), "b", nil, never))
		stop := f.start(never)
		time.Sleep(time.Hour)
		stop()
		require.EqualValues(t, 2, f.stats().Pending)
		f.Resume()
		f.Resume()
		n, err = f.Drain(t.Context(), func(context.Context, outbox.Event) error { return nil })
		require.NoError(t, err)
		require.Equal(t, 2, n.Delivered)
	})
}

// A Drain that is paused on the way ends when what is under way has ended.
func TestPause_DuringDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueueMany("a", 100)
		n, err := f.Drain(t.Context(), func(context.Context, outbox.Event) error {
			f.Pause()
			return nil
		})
		require.ErrorIs(t, err, outbox.ErrPaused)
		require.Equal(t, outbox.Drained{Delivered: 1, Waiting: 99}, n)
	})
}
