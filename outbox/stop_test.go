package outbox_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

func TestStart_StoppedBeforeItStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueue("e")
		r := f.receiver(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, f.Start(ctx, r.publish))
		require.NoError(t, f.Start(ctx, r.publish))
		require.Empty(t, r.calls())
		require.Equal(t, outbox.Waiting, f.task().State)
	})
}

// What is under way finishes and is settled; what was only claimed is given back,
// as if nothing had been.
func TestStart_Stop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		r := f.receiver(func(ctx context.Context, e outbox.Event) error {
			if e.Name == "slow" {
				time.Sleep(10 * time.Second)
			}
			return ctx.Err() // the stop is not its context's end
		})
		f.enqueueMany("quick", 100) // so that the dispatcher claims ahead
		f.enqueueMany("slow", 100)
		stop := f.start(r.publish)
		time.Sleep(time.Second)
		require.Greater(t, f.stats().InFlight, uint64(4))

		go func() {
			time.Sleep(time.Millisecond)
			st := f.stats()
			require.Equal(t, uint64(4), st.InFlight, "the others are given back at once")
			require.Equal(t, uint64(96), st.Pending)
		}()
		stop()
		require.Equal(t, 10*time.Second, f.clock())
		require.Equal(t, uint64(104), f.stats().Delivered)
		for _, task := range f.tasks() {
			require.Equal(t, outbox.Waiting, task.State)
			require.Zero(t, task.Attempts)
			require.False(t, task.DueAt.After(time.Now()))
		}
		stop() // a second stop is nothing

		f.start(r.publish)
		time.Sleep(time.Hour)
		require.Len(t, r.calls(), 200)
		require.Equal(t, uint64(200), f.stats().Delivered)
	})
}

// An attempt that the stop has cut short is not counted.
func TestStart_StopCutsAttemptsShort(t *testing.T) {
	for _, c := range []struct {
		name string
		p    func(stopped context.Context) outbox.Publisher
		ends time.Duration
	}{
		{"the publisher watches what stops Start", func(stopped context.Context) outbox.Publisher {
			return func(context.Context, outbox.Event) error { <-stopped.Done(); return stopped.Err() }
		}, 10 * time.Second},
		{"and says unavailable", func(stopped context.Context) outbox.Publisher {
			return func(context.Context, outbox.Event) error {
				<-stopped.Done()
				return outbox.Unavailable(stopped.Err())
			}
		}, 10 * time.Second},
		{"its time runs out after the stop", func(context.Context) outbox.Publisher { return obedient }, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.enqueue("e")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				require.NoError(t, f.Start(ctx, c.p(ctx)))
				require.Equal(t, c.ends, f.clock())
				task := f.task()
				require.Equal(t, outbox.Waiting, task.State)
				require.Zero(t, task.Attempts)
				require.False(t, task.DueAt.After(time.Now()), "due at once")
			})
		})
	}
}

// A refusal is a refusal, also after the stop.
func TestStart_StopCountsAnswers(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		state outbox.State
	}{
		{"refused", errRefused, outbox.Waiting},
		{"permanent", outbox.Permanent(context.Canceled), outbox.Dead},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.enqueue("e")
				stop := f.start(func(context.Context, outbox.Event) error { time.Sleep(time.Second); return c.err })
				synctest.Wait()
				stop()
				require.Equal(t, c.state, f.task().State)
				require.Equal(t, 1, f.task().Attempts)
			})
		})
	}
}

// A publisher that does not obey is given up a second after its time; its late
// result still counts.
func TestStart_StopGivesUpOnPublishers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithPublishTimeout(10*time.Second))
		release := make(chan struct{})
		stop := f.start(func(context.Context, outbox.Event) error { <-release; return nil })
		f.enqueue("e")
		time.Sleep(time.Second)
		stop()
		require.Equal(t, 11*time.Second, f.clock())
		require.Equal(t, uint64(1), f.stats().InFlight)
		require.Len(t, f.log.at(slog.LevelWarn), 1)

		time.Sleep(time.Hour)
		close(release)
		synctest.Wait()
		require.Equal(t, uint64(1), f.stats().Delivered)
		require.Len(t, f.log.at(slog.LevelWarn), 2)
	})
}

// So it is without a stop: another worker takes over, and the event is published
// again when there is no more hope.
func TestStart_GivesUpOnPublishers(t *testing.T) {
	for _, c := range []struct {
		name  string
		back  time.Duration // when the first call comes back
		how   func()
		calls int
	}{
		{"a late result counts", 100 * time.Second, func() {}, 1},
		{"so does a late end of the goroutine", 100 * time.Second, runtime.Goexit, 2},
		{"one that is too late does not", 200 * time.Second, func() {}, 2},
		{"and one may never come", 24 * time.Hour, func() {}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(1))
				r := f.receiver(nil)
				r.answer = func(_ context.Context, e outbox.Event) error {
					if len(r.calls()) == 1 {
						time.Sleep(c.back)
						c.how()
					}
					return nil
				}
				stop := f.start(func(ctx context.Context, e outbox.Event) error {
					if e.Name == "other" {
						require.GreaterOrEqual(t, f.clock(), 31*time.Second)
						return nil
					}
					return r.publish(ctx, e)
				})
				f.enqueue("hangs")
				f.enqueue("other")
				time.Sleep(32 * time.Second)
				require.Equal(t, uint64(1), f.stats().Delivered, "the other one has not waited for long")
				require.Equal(t, uint64(1), f.stats().InFlight)
				time.Sleep(time.Hour)
				require.Len(t, r.calls(), c.calls)
				require.Equal(t, uint64(2), f.stats().Delivered)
				stop()
				time.Sleep(24 * time.Hour)
				require.Equal(t, uint64(2), f.stats().Delivered)
			})
		})
	}
}

// However many hang, goroutines do not pile up, and when they return all goes on.
func TestStart_GivesUpOnAFewPublishersOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(2), outbox.WithPublishTimeout(time.Second))
		up := make(chan struct{})
		r := f.receiver(func(context.Context, outbox.Event) error { <-up; return nil })
		f.start(r.publish)
		f.enqueueMany("e", 50)
		time.Sleep(24 * time.Hour)
		require.LessOrEqual(t, len(r.calls()), 4, "two given up, two in their place; no call has returned")
		close(up)
		time.Sleep(5 * time.Minute)
		require.Equal(t, uint64(50), f.stats().Delivered)
	})
}

// The last outcomes are settled with a store that has its difficulties; when it has
// too many, Start says so.
func TestStart_StopSettles(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration // the attempt
		fails int
		want  error
	}{
		{"in the end", 2 * time.Second, 2, nil},
		{"in the end, while it was to wait for the store", 0, 5, nil},
		{"not at all", 2 * time.Second, 100, errRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.store.onSettle = func(call int) error {
					if call <= c.fails {
						return errRefused
					}
					return nil
				}
				f.enqueue("e")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := f.Start(ctx, func(context.Context, outbox.Event) error { time.Sleep(c.takes); return nil })
				require.ErrorIs(t, err, c.want)
				require.Less(t, f.clock(), 4*time.Second)
				if c.want == nil {
					require.Equal(t, uint64(1), f.stats().Delivered)
				}
			})
		})
	}
}

// Many starts and stops at once, while events come in: each is delivered, none twice.
func TestStart_Stress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var mu sync.Mutex
		seen := map[outbox.ID]int{}
		publish := func(_ context.Context, e outbox.Event) error {
			mu.Lock()
			defer mu.Unlock()
			seen[e.ID]++
			return nil
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 25 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i*j%7)*time.Millisecond)
					if err := f.Start(ctx, publish); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
			all.Go(func() {
				for range 50 {
					if _, err := f.Enqueue(context.Background(), "e", nil); err != nil {
						t.Error(err)
					}
					f.Wake()
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		_, err := f.Drain(t.Context(), publish)
		require.NoError(t, err)
		require.Len(t, seen, 400)
		for _, n := range seen {
			require.Equal(t, 1, n)
		}
		require.Equal(t, uint64(400), f.stats().Delivered)
	})
}
