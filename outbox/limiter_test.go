package outbox_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// limiter calls itself, with the number of the call.
type limiter struct {
	calls atomic.Int64
	wait  func(ctx context.Context, call int64) error
}

func (l *limiter) Wait(ctx context.Context) error { return l.wait(ctx, l.calls.Add(1)) }

// every lets one call through in each interval.
func every(interval time.Duration) *limiter {
	var mu sync.Mutex
	var next time.Time
	return &limiter{wait: func(ctx context.Context, _ int64) error {
		mu.Lock()
		now := time.Now()
		if next.Before(now) {
			next = now
		}
		pause := next.Sub(now)
		next = next.Add(interval)
		mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			return nil
		}
	}}
}

// blocks never lets anything through, but obeys.
func blocks(ctx context.Context, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestLimiter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := every(time.Minute)
		f := setup(t, outbox.WithLimiter(l), outbox.WithPublishTimeout(10*time.Second))
		r := f.receiver(func(ctx context.Context, _ outbox.Event) error {
			end, _ := ctx.Deadline()
			require.Equal(t, 10*time.Second, time.Until(end), "the wait is no part of the attempt")
			return nil
		})
		f.start(r.publish)
		f.enqueueMany("e", 200)
		time.Sleep(199*time.Minute + 1)
		for i, at := range r.times() {
			require.Equal(t, time.Duration(i)*time.Minute, at)
		}
		require.Len(t, r.calls(), 200)
		synctest.Wait()
		require.Equal(t, int64(200), l.calls.Load(), "asked once for each")
		require.Equal(t, uint64(200), f.stats().Delivered)
	})
}

// Attempts still run side by side, and a quick limiter is no brake.
func TestLimiter_Concurrency(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(every(time.Second)), outbox.WithConcurrency(4))
		r := f.receiver(func(context.Context, outbox.Event) error { time.Sleep(10 * time.Second); return nil })
		f.start(r.publish)
		f.enqueueMany("e", 8)
		time.Sleep(time.Minute)
		s := time.Second
		require.Equal(t, []time.Duration{0, s, 2 * s, 3 * s, 10 * s, 11 * s, 12 * s, 13 * s}, r.times())
	})
}

// For a batch, too, it is asked once.
func TestLimiter_Batch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(every(time.Minute)))
		f.enqueueMany("e", 300)
		var at []time.Duration // guarded by the limiter: calls are minutes apart
		stop := f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
				require.Len(t, events, 100)
				at = append(at, f.clock())
				return nil
			})
		})
		time.Sleep(time.Hour)
		stop()
		require.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute}, at)
	})
}

// While the limiter has no room hardly anything is claimed, so an alarm goes first.
func TestLimiter_Alarm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(every(time.Minute)))
		r := f.receiver(nil)
		f.start(r.publish)
		f.enqueueMany("telemetry", 100, outbox.WithPriority(outbox.Low))
		time.Sleep(10*time.Minute + time.Second)
		f.enqueue("alarm", outbox.WithPriority(outbox.High))
		r.clear()
		time.Sleep(2 * time.Minute)
		require.Equal(t, "telemetry alarm", r.names())
		require.LessOrEqual(t, f.stats().InFlight, uint64(1))
	})
}

// A limiter that is no good is passed over, and complained of once.
func TestLimiter_Fails(t *testing.T) {
	for name, wait := range map[string]func(context.Context, int64) error{
		"error": func(context.Context, int64) error { return errRefused },
		"panic": func(context.Context, int64) error { panic("boom") },
		"now and then": func(_ context.Context, call int64) error {
			if call%2 == 0 {
				return errRefused
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithLimiter(&limiter{wait: wait}))
				f.start(answers(nil))
				f.enqueueMany("e", 100)
				synctest.Wait()
				require.Equal(t, uint64(100), f.stats().Delivered)
				require.Equal(t, []string{"outbox: limiter failed, going on without it"}, f.log.at(slog.LevelError))
			})
		})
	}
	t.Run("nil", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := setup(t, outbox.WithLimiter(nil))
			f.start(answers(nil))
			f.enqueueMany("e", 100)
			synctest.Wait()
			require.Equal(t, uint64(100), f.stats().Delivered)
		})
	})
	t.Run("ends the goroutine", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := setup(t, outbox.WithConcurrency(2), outbox.WithLimiter(&limiter{wait: func(context.Context, int64) error {
				runtime.Goexit()
				return nil
			}}))
			stop := f.start(answers(nil))
			f.enqueueMany("e", 100)
			synctest.Wait()
			require.Equal(t, uint64(100), f.stats().Delivered)
			stop()
		})
	})
}

// A limiter that blocks holds the events up, but not the stop. Nothing was begun.
func TestLimiter_Blocks(t *testing.T) {
	for _, c := range []struct {
		name  string
		obeys bool
		ends  time.Duration
	}{{"obeys", true, time.Minute}, {"does not", false, time.Minute + time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				let := make(chan struct{})
				f := setup(t, outbox.WithLimiter(&limiter{wait: func(ctx context.Context, call int64) error {
					if c.obeys {
						return blocks(ctx, call)
					}
					<-let
					return nil
				}}))
				r := f.receiver(nil)
				stop := f.start(r.publish)
				f.enqueueMany("e", 100)
				time.Sleep(time.Minute)
				stop()
				require.Equal(t, c.ends, f.clock())
				close(let)
				synctest.Wait()
				require.Empty(t, r.calls())
				require.Equal(t, uint64(100), f.stats().Pending)
				require.Empty(t, f.log.at(slog.LevelError))
			})
		})
	}
}

// What waits for the limiter goes back when an outage begins, and the probe asks too.
func TestLimiter_Outage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(every(10*time.Minute)))
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueueMany("e", 100)
		time.Sleep(24 * time.Hour)
		require.InDelta(t, 24*6, len(r.calls()), 2)
		require.LessOrEqual(t, f.stats().InFlight, uint64(1))
		for _, task := range f.tasks() {
			require.Zero(t, task.Attempts)
		}
		l.down.Store(false)
		time.Sleep(24 * time.Hour)
		require.Zero(t, f.stats().Pending)
	})
}

func TestLimiter_Drain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLimiter(every(time.Minute)))
		f.enqueueMany("e", 100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		n, err := f.Drain(ctx, answers(nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, outbox.Drained{Delivered: 11, Waiting: 89}, n)
		require.Equal(t, 10*time.Minute+time.Second, f.clock())
	})
}

func TestLimiter_Do(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &limiter{wait: blocks}
		f := setup(t, outbox.WithLimiter(l))
		require.NoError(t, f.Do(t.Context(), "e", nil, answers(nil)))
		require.Equal(t, uint64(1), f.stats().Delivered)
		require.Zero(t, l.calls.Load())
	})
}
