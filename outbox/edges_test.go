package outbox_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// Where two features meet, a review has found what each of them alone had kept. One test
// for each.

var errAway = outbox.Unavailable(errRefused)

// Probes rotate, also where the newest goes first.
func TestEdge_NewestProbesRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.NewestFirst())
		var up atomic.Bool
		f.enqueueMany("good", 20)
		f.start(func(_ context.Context, e outbox.Event) error {
			if !up.Load() || e.Name == "poison" {
				return errAway
			}
			return nil
		})
		time.Sleep(10 * time.Minute)
		f.enqueue("poison")
		time.Sleep(10 * time.Minute)
		up.Store(true)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.EqualValues(t, 20, f.stats().Delivered)
	})
}

// A link that breaks in the middle of a batch is an outage for the rest of it (P6).
func TestEdge_BatchBreaksInTheMiddle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(10, 0, 0))
		var down atomic.Bool
		f.enqueueMany("a", 10, outbox.WithMaxAttempts(1))
		f.startBatch(func(events []outbox.Event) []error {
			errs := make([]error, len(events))
			for i := range events {
				if i == 5 {
					down.Store(true)
				}
				if down.Load() {
					errs[i] = errAway
				}
			}
			return errs
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, f.stats().Dead)
	})
}

// A link that breaks in the middle of a drain is an outage for all that was under way (P6).
func TestEdge_DrainBreaksInTheMiddle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		f.enqueueMany("a", 8, outbox.WithMaxAttempts(1))
		var calls atomic.Int32
		n, err := f.Drain(t.Context(), func(context.Context, outbox.Event) error {
			i := calls.Add(1)
			time.Sleep(time.Duration(i) * time.Second)
			if i == 1 {
				return nil
			}
			return errAway
		})
		require.ErrorIs(t, err, outbox.ErrUnavailable)
		require.Equal(t, outbox.Drained{Delivered: 1, Waiting: 7}, n)
		for _, task := range f.tasks() {
			require.Zero(t, task.Attempts)
		}
	})
}

// An event that others get through after, in a drain, is charged: in the end it dies,
// however short the drains are.
func TestEdge_DrainWithPoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var retried, dead atomic.Int32
		f := setup(t, outbox.WithConcurrency(4), outbox.WithObserver(outbox.Observer{
			Retried: func(outbox.Attempt) { retried.Add(1) },
			Dead:    func(outbox.Attempt) { dead.Add(1) },
		}))
		f.enqueue("poison")
		for run := 1; run <= 3; run++ {
			f.enqueueMany("good", 10)
			n, err := f.Drain(t.Context(), func(_ context.Context, e outbox.Event) error {
				if e.Name == "poison" {
					time.Sleep(50 * time.Millisecond)
					return errAway
				}
				time.Sleep(20 * time.Millisecond)
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, 10, n.Delivered)
			time.Sleep(time.Hour)
		}
		require.Equal(t, outbox.ReasonExhausted, f.task().Reason)
		require.Equal(t, []int32{2, 1}, []int32{retried.Load(), dead.Load()}, "observers hear of it")
		require.Equal(t, []string{"outbox: event is dead"}, f.log.at(slog.LevelError))
	})
}

// A device that boots in 1970 trusts no certificate: nothing was sent, nothing is spent.
func TestEdge_ClockOf1970(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("a", 10)
		var right atomic.Bool
		f.start(func(context.Context, outbox.Event) error {
			if right.Load() {
				return nil
			}
			return &url.Error{Op: "Post", URL: "https://cloud", Err: x509.CertificateInvalidError{Reason: x509.Expired}}
		})
		time.Sleep(time.Hour)
		require.Zero(t, f.stats().Dead)
		right.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.EqualValues(t, 10, f.stats().Delivered)
	})
}

// An event that brings down every batch it is in goes alone before it is charged, and
// nobody dies with it.
func TestEdge_PoisonInBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(10, 0, 2*time.Second))
		f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
				time.Sleep(time.Second)
				for _, e := range events {
					if e.Name == "poison" {
						return []error{errAway}
					}
				}
				return nil
			})
		})
		f.enqueue("poison")
		f.enqueueMany("good", 9)
		for range 600 {
			f.enqueueMany("fine", 10)
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, "poison", f.task().Name)
		require.Equal(t, outbox.Dead, f.task().State)
	})
}

// Numbers beyond all measure do not bring anything to a halt.
func TestEdge_LargestNumbers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(math.MaxInt, 1<<20, 0), outbox.WithConcurrency(math.MaxInt))
		f.enqueueMany("a", 20)
		f.startBatch(func([]outbox.Event) []error { return nil })
		synctest.Wait()
		require.EqualValues(t, 20, f.stats().Delivered)
	})
}

// A batch that has lingered does not linger again because the limiter took its time.
func TestEdge_LimiterAndLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var at atomic.Int64
		f := setup(t, outbox.WithBatch(10, 0, time.Second), outbox.WithLimiter(&limiter{wait: func(context.Context, int64) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}}))
		f.startBatch(func([]outbox.Event) []error {
			at.Store(int64(f.clock()))
			return nil
		})
		f.enqueue("a")
		time.Sleep(time.Hour)
		require.Equal(t, 1100*time.Millisecond, time.Duration(at.Load()))
	})
}

// A publisher that hangs at the stop holds its key for minutes, not for a day, whether
// there is a limiter or not; and what waits for the limiter for hours is nobody else's.
func TestEdge_LimiterLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(&limiter{wait: func(context.Context, int64) error { return nil }}))
		release := make(chan struct{})
		defer close(release)
		stop := f.start(func(context.Context, outbox.Event) error {
			<-release
			return errRefused
		})
		f.enqueue("a", outbox.WithKey("k"))
		time.Sleep(time.Second)
		stop()
		var at atomic.Int64
		f.start(func(context.Context, outbox.Event) error {
			at.CompareAndSwap(0, int64(f.clock()))
			return nil
		})
		f.enqueue("b", outbox.WithKey("k"))
		time.Sleep(time.Hour)
		require.NotZero(t, at.Load())
		require.Less(t, time.Duration(at.Load()), 10*time.Minute)
	})
}

// Batches that bytes keep small wait long in the queue; none outlives its claim, so none
// is published by two.
func TestEdge_SmallBatchesOfASlowPublisher(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(100, 1, 0), outbox.WithConcurrency(1))
		var calls atomic.Int32
		slow := func([]outbox.Event) []error {
			time.Sleep(5 * time.Second)
			calls.Add(1)
			return nil
		}
		events := make([]outbox.Event, 100)
		for i := range events {
			events[i] = outbox.Event{Name: "a", Payload: []byte("1234")}
		}
		_, err := f.EnqueueBatch(t.Context(), events)
		require.NoError(t, err)
		f.startBatch(slow)
		time.Sleep(time.Second)
		f.startBatch(slow)
		time.Sleep(time.Hour)
		require.EqualValues(t, 100, calls.Load())
	})
}

// A backoff that panics is passed over.
func TestEdge_BackoffPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBackoff(func(int) time.Duration { panic("no pause") }))
		f.enqueue("a")
		r := f.receiver(answers(errRefused, errRefused, nil))
		f.start(r.publish)
		time.Sleep(time.Hour)
		require.EqualValues(t, 1, f.stats().Delivered)
	})
}

// Dead letters of an hour ago, and an event that is not due, are no sign of trouble.
func TestEdge_HealthyWithDelayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.start(answers(outbox.Permanent(errRefused)))
		f.enqueueMany("dead", 3)
		time.Sleep(time.Hour)
		f.enqueue("later", outbox.WithDelay(time.Hour))
		time.Sleep(30 * time.Minute)
		require.NoError(t, f.Health(t.Context()))
	})
}

// A drain that meets an outage leaves what it has tried due: the next one says that the
// outage lasts, and the first one after it delivers all, in order, in one go.
func TestEdge_DrainAfterDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		for range 5 {
			f.enqueue("keyed", outbox.WithKey("k"))
		}
		f.enqueueMany("e", 5)
		for range 3 {
			n, err := f.Drain(t.Context(), answers(errAway))
			require.ErrorIs(t, err, outbox.ErrUnavailable)
			require.ErrorContains(t, err, "outbox: destination unavailable: ")
			require.Equal(t, outbox.Drained{Waiting: 10}, n)
		}
		n, err := f.Drain(t.Context(), answers(nil))
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 10}, n)
	})
}
