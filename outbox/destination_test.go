package outbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// destination returns the counters of the only destination.
func (f *fixture) destination() outbox.DestinationStats {
	f.t.Helper()
	all := f.Destinations()
	require.Len(f.t, all, 1)
	return all[0]
}

func TestDestinations(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		require.Equal(t, outbox.DestinationStats{}, f.destination())
		r := f.receiver(func(_ context.Context, e outbox.Event) error {
			switch e.Name {
			case "fine":
				return nil
			case "never":
				return outbox.Permanent(errRefused)
			case "slow":
				time.Sleep(10 * time.Second)
			}
			return errRefused
		})
		stop := f.start(r.publish)
		f.enqueue("fine")
		f.enqueue("never")
		f.enqueue("refused") // three times
		f.enqueue("slow")    // once so far
		time.Sleep(5 * time.Second)
		st := f.destination()
		require.Equal(t, uint64(1), st.InFlight)
		require.Equal(t, 1, st.Running)
		require.Equal(t, f.began.UTC(), st.LastDelivered.UTC())
		require.Equal(t, 2*time.Second, st.LastErrorAt.Sub(f.began))
		require.Equal(t, "refused", st.LastError)

		time.Sleep(5500 * time.Millisecond) // before the slow one is due again
		stop()
		st = f.destination()
		st.LastDelivered, st.LastErrorAt = time.Time{}, time.Time{}
		require.Equal(t, outbox.DestinationStats{Delivered: 1, Refused: 5, Dead: 2, LastError: "refused"}, st)

		f.start(answers(nil)) // counts on
		time.Sleep(time.Minute)
		require.Equal(t, uint64(2), f.destination().Delivered)
		require.NoError(t, f.Do(t.Context(), "e", nil, answers(errRefused)))
		synctest.Wait()
		require.Equal(t, uint64(6), f.destination().Refused, "Do counts too")
	})
}

func TestDestinations_InAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		up := false
		f.start(func(context.Context, outbox.Event) error {
			if up {
				return nil
			}
			return outbox.Unavailable(errRefused)
		})
		time.Sleep(time.Hour)
		f.enqueueMany("e", 5)
		time.Sleep(time.Hour)
		st := f.destination()
		require.Equal(t, outbox.GateShut, st.Gate)
		require.Equal(t, time.Hour, st.ShutSince.Sub(f.began))
		require.Greater(t, st.Unavailable, uint64(50))
		require.Zero(t, st.Refused)
		up = true
		f.Wake()
		time.Sleep(time.Minute)
		st = f.destination()
		require.NotEqual(t, outbox.GateShut, st.Gate)
		require.Zero(t, st.ShutSince)
		require.Equal(t, uint64(5), st.Delivered)
	})
}

// A publisher that was given up still has its event.
func TestDestinations_CountStrays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithPublishTimeout(time.Second), outbox.WithConcurrency(1))
		up := make(chan struct{})
		f.start(func(context.Context, outbox.Event) error { <-up; return nil })
		f.enqueueMany("e", 3)
		time.Sleep(time.Minute)
		require.Equal(t, uint64(2), f.destination().InFlight, "one given up, one in its place")
		close(up)
		time.Sleep(time.Minute)
		require.Zero(t, f.destination().InFlight)
		require.Equal(t, uint64(3), f.destination().Delivered)
	})
}
