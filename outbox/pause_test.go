package outbox_test

import (
	"context"
	"sync"
	"sync/atomic"
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

// An outage goes on when the pause is over, whatever became of the probe.
func TestPause_InAnOutage(t *testing.T) {
	for _, c := range []struct {
		name   string
		paused time.Duration // after the start
	}{
		{"between probes", 10 * time.Second},
		{"as one is claimed", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(1))
				var up atomic.Bool
				r := f.receiver(func(context.Context, outbox.Event) error {
					if up.Load() {
						return nil
					}
					return outbox.Unavailable(errRefused)
				})
				if c.paused == 0 {
					f.store.onClaim = func(int) error {
						if len(r.calls()) == 3 && !f.Paused() && f.clock() < time.Minute {
							f.Pause() // the claim gives the probe out all the same
						}
						return nil
					}
				}
				f.start(r.publish)
				f.enqueueMany("e", 3)
				if c.paused > 0 {
					time.Sleep(c.paused)
					f.Pause()
				}
				time.Sleep(time.Hour)
				n := len(r.calls())
				require.True(t, c.paused > 0 || n == 3, "that probe has not begun")
				time.Sleep(time.Hour)
				require.Len(t, r.calls(), n)
				require.Zero(t, f.stats().InFlight)
				up.Store(true)
				f.Resume()
				time.Sleep(2 * time.Minute)
				require.Equal(t, uint64(3), f.stats().Delivered)
			})
		})
	}
}

// Pausing and resuming at once, from everywhere, loses nothing.
func TestPause_Stress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		r := f.receiver(func(context.Context, outbox.Event) error { time.Sleep(time.Millisecond); return nil })
		f.start(r.publish)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 100 {
					if (i+j)%3 == 0 {
						f.Pause()
					} else {
						f.Resume()
					}
					if _, err := f.Enqueue(context.Background(), "e", nil); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(i) * time.Millisecond)
				}
			})
		}
		all.Wait()
		f.Resume()
		time.Sleep(time.Minute)
		require.Equal(t, uint64(800), f.stats().Delivered)
		require.Len(t, r.calls(), 800)
	})
}

// A Drain that a pause has ended says so, though all is well again when it returns.
func TestPause_ResumedBeforeDrainReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueueMany("a", 5)
		n, err := f.Drain(t.Context(), func(context.Context, outbox.Event) error {
			f.Pause()
			time.Sleep(time.Second)
			f.Resume()
			return nil
		})
		require.ErrorIs(t, err, outbox.ErrPaused)
		require.Equal(t, outbox.Drained{Delivered: 1, Waiting: 4}, n)
	})
}
