package outbox_test

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// flow has an outage end over a backlog of n events and returns how many got through in
// each second after that.
func flow(t *testing.T, n int, opts ...outbox.Option) (perSecond []int) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		opts = append([]outbox.Option{outbox.WithConcurrency(4), outbox.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
		f.Outbox = outbox.New(newBacklog(), opts...)
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueueMany("e", n)
		time.Sleep(time.Hour)
		l.down.Store(false)
		r.clear()
		f.Wake()
		time.Sleep(10 * time.Minute)
		up := r.calls()[0].at
		for _, c := range r.calls() {
			second := int((c.at - up) / time.Second)
			for len(perSecond) <= second {
				perSecond = append(perSecond, 0)
			}
			perSecond[second]++
		}
	})
	return perSecond
}

func TestRamp(t *testing.T) {
	// A rate r that doubles in a second lets r/ln2 events through in it.
	got := flow(t, 20_000)
	require.Len(t, got, 8)
	most := 100 / math.Ln2
	for _, n := range got[:7] {
		require.InDelta(t, most, n, most*0.1, "%v", got)
		most *= 2
	}

	got = flow(t, 200, outbox.WithRamp(1, 30*time.Second))
	require.InDelta(t, 75, len(got), 4, "%v", got) // 30 s · log2(1 + 200·ln2/30)
	for i, n := range got[:30] {
		require.LessOrEqual(t, n, 2+i/10, "second %d of %v", i, got)
	}
}

func TestRamp_Off(t *testing.T) {
	for name, opts := range map[string][]outbox.Option{
		"no ramp":       {outbox.NoRamp()},
		"the last says": {outbox.WithRamp(1, time.Hour), outbox.NoRamp()},
		"steep":         {outbox.WithRamp(math.Inf(1), time.Second)},
		"very steep":    {outbox.WithRamp(1e9, 1)},
	} {
		require.Equal(t, []int{2000}, flow(t, 2000, opts...), name)
	}
}

func TestRamp_Defaults(t *testing.T) {
	want := flow(t, 2000)
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(-1)} {
		require.Equal(t, want, flow(t, 2000, outbox.WithRamp(rate, -1)), rate)
	}
	require.Equal(t, want, flow(t, 2000, outbox.NoRamp(), outbox.WithRamp(0, 0)))
	require.Len(t, flow(t, 2000, outbox.WithRamp(1, 1)), 1, "the shortest doubling")
	require.InDelta(t, 500, len(flow(t, 500, outbox.WithRamp(1, math.MaxInt64))), 3, "the longest")
}

// There is a ramp after an outage only, and after each anew.
func TestRamp_Outages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithRamp(10, time.Hour))
		var l link
		f.start(l.answer)
		f.enqueueMany("e", 1000)
		synctest.Wait()
		require.Equal(t, uint64(1000), f.stats().Delivered, "a start is no end of an outage")

		for range 2 {
			l.down.Store(true)
			f.enqueueMany("e", 100)
			time.Sleep(time.Hour)
			l.down.Store(false)
			before := f.stats().Delivered
			f.Wake()
			time.Sleep(5 * time.Second)
			require.Equal(t, outbox.GateRamping, f.Destinations()[0].Gate)
			require.InDelta(t, 50, f.stats().Delivered-before, 5)
			time.Sleep(time.Minute)
			require.Zero(t, f.stats().Pending)
		}

		// A pause saves up nothing.
		time.Sleep(10 * time.Minute)
		before := f.stats().Delivered
		f.enqueueMany("e", 1000)
		time.Sleep(5 * time.Second)
		require.InDelta(t, 56, f.stats().Delivered-before, 6) // the rate has grown by an eighth
		// Once nothing was held back for a doubling time, the ramp is over.
		time.Sleep(3 * time.Hour)
		f.enqueueMany("e", 1000)
		synctest.Wait()
		require.Zero(t, f.stats().Pending)
		require.Equal(t, outbox.GateOpen, f.Destinations()[0].Gate)
	})
}

// What is not slowed down by the ramp is not slowed down at all.
func TestRamp_Trickle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueue("e")
		time.Sleep(time.Hour)
		l.down.Store(false)
		f.Wake()
		synctest.Wait()
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			r.clear()
			f.enqueue("e")
			at := f.clock()
			time.Sleep(10 * time.Millisecond)
			require.Len(t, r.calls(), 1)
			require.LessOrEqual(t, r.calls()[0].at-at, 10*time.Millisecond)
		}
	})
}

// Batches ramp up by their events.
func TestRamp_Batches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithRamp(10, time.Hour))
		var l link
		l.down.Store(true)
		f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(ctx context.Context, events []outbox.Event) []error {
				if err := l.answer(ctx, events[0]); err != nil {
					return []error{err}
				}
				return nil
			})
		})
		f.enqueueMany("e", 200)
		time.Sleep(time.Hour)
		l.down.Store(false)
		f.Wake()
		time.Sleep(5 * time.Second)
		require.InDelta(t, 50, f.stats().Delivered, 5)
	})
}
