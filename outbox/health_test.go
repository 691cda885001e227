package outbox_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// healthStore is a store whose Stats say what the test wants.
type healthStore struct {
	outbox.Store
	noRoom, err error
}

func (s *healthStore) Stats(ctx context.Context) (outbox.Stats, error) {
	st, err := s.Store.Stats(ctx)
	st.NoRoom = s.noRoom
	return st, errors.Join(err, s.err)
}

// is requires that Health says exactly that: each of the sentinels, and none of the others.
func (f *fixture) healthIs(want ...error) {
	f.t.Helper()
	synctest.Wait()
	err := f.Health(f.t.Context())
	if len(want) == 0 {
		require.NoError(f.t, err)
	}
	for _, e := range []error{outbox.ErrUnavailable, outbox.ErrStuck, outbox.ErrStale, outbox.ErrPaused, outbox.ErrClosed, errRefused} {
		is := false
		for _, w := range want {
			is = is || w == e
		}
		require.Equal(f.t, is, errors.Is(err, e), "%v: %v", e, err)
	}
}

func TestHealth_Store(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		s := &healthStore{Store: f.store}
		ob := outbox.New(s, quiet())
		require.NoError(t, ob.Health(t.Context()))
		s.noRoom = outbox.ErrDiskFull
		require.ErrorIs(t, ob.Health(t.Context()), outbox.ErrDiskFull)
		s.noRoom = nil
		require.NoError(t, ob.Health(t.Context()))
		s.err = outbox.ErrPoisoned
		require.ErrorIs(t, ob.Health(t.Context()), outbox.ErrPoisoned)
		require.NoError(t, f.store.Close())
		f.healthIs(outbox.ErrClosed)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, ob.Health(ctx))
	})
}

// A store that works, but refuses one of its calls, over and over.
func TestHealth_CallsOfTheStore(t *testing.T) {
	for name, set := range map[string]func(s *spy, fails func(int) error){
		"claim":  func(s *spy, fails func(int) error) { s.onClaim = fails },
		"settle": func(s *spy, fails func(int) error) { s.onSettle = fails },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				set(f.store, func(call int) error {
					if call <= 3 {
						return errRefused
					}
					return nil
				})
				f.start(answers(nil))
				f.enqueue("e")
				f.healthIs(errRefused)
				time.Sleep(time.Minute)
				f.healthIs()
			})
		})
	}
}

func TestHealth_Outage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		up := make(chan struct{})
		f.start(func(context.Context, outbox.Event) error {
			select {
			case <-up:
				return nil
			default:
				return outbox.Unavailable(errRefused)
			}
		})
		f.healthIs()
		time.Sleep(time.Hour)
		f.enqueueMany("e", 5)
		time.Sleep(time.Hour)
		f.healthIs(outbox.ErrUnavailable)
		require.EqualError(t, f.Health(t.Context()),
			`outbox: destination unavailable: destination "", since 2000-01-01T01:00:00Z: refused`)
		f.Pause()
		f.healthIs()
		f.Resume()
		close(up)
		f.Wake()
		time.Sleep(time.Minute)
		f.healthIs()
	})
}

// Events wait, and nothing publishes.
func TestHealth_NoStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		time.Sleep(time.Hour)
		f.healthIs()
		f.enqueue("later", outbox.WithDelay(24*time.Hour))
		f.healthIs(outbox.ErrStuck)
		stop := f.start(answers(nil))
		f.healthIs()
		time.Sleep(time.Hour)
		stop()
		f.healthIs()
		time.Sleep(6 * time.Minute)
		f.healthIs(outbox.ErrStuck)
		f.Pause()
		f.healthIs()
	})
}

// Nothing gets through, though the destination answers; or it hangs.
func TestHealth_Stuck(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []outbox.Option
		p    func(release chan struct{}) outbox.Publisher
		ill  time.Duration // when it is known
	}{
		{"refuses everything", []outbox.Option{outbox.WithDefaults(outbox.WithMaxAttempts(1000))},
			func(release chan struct{}) outbox.Publisher {
				return func(context.Context, outbox.Event) error {
					select {
					case <-release:
						return nil
					default:
						return errRefused
					}
				}
			}, 5 * time.Minute},
		{"hangs", []outbox.Option{outbox.WithConcurrency(1)},
			func(release chan struct{}) outbox.Publisher {
				return func(context.Context, outbox.Event) error { <-release; return nil }
			}, 5 * time.Minute},
		{"may take long", []outbox.Option{outbox.WithConcurrency(1), outbox.WithPublishTimeout(time.Hour)},
			func(release chan struct{}) outbox.Publisher {
				return func(context.Context, outbox.Event) error { <-release; return nil }
			}, 2 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, c.opts...)
				release := make(chan struct{})
				f.start(c.p(release))
				f.enqueueMany("e", 3)
				time.Sleep(c.ill - time.Second)
				f.healthIs()
				time.Sleep(2 * time.Second)
				f.healthIs(outbox.ErrStuck)
				close(release)
				time.Sleep(10 * time.Minute)
				f.healthIs()
			})
		})
	}
}

// One event that the destination has put off is no illness, nor are dead letters, nor
// are failures beside deliveries.
func TestHealth_NotStuck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.start(func(_ context.Context, e outbox.Event) error {
			switch e.Name {
			case "late":
				return outbox.RetryAfter(errRefused, 24*time.Hour)
			case "never":
				return outbox.Permanent(errRefused)
			}
			return nil
		})
		f.enqueue("late")
		time.Sleep(time.Hour)
		f.healthIs()
		for range 10 {
			f.enqueue("never")
			f.enqueue("fine")
			time.Sleep(time.Minute)
		}
		f.healthIs()
		require.Equal(t, uint64(10), f.stats().Dead)
		f.enqueue("late") // what failed before the last delivery is forgiven
		time.Sleep(time.Hour)
		f.healthIs()
	})
}

func TestHealth_MaxAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithMaxAge(time.Hour))
		f.start(answers(nil))
		f.enqueue("e", outbox.WithDelay(2*time.Hour))
		time.Sleep(time.Hour)
		f.healthIs()
		time.Sleep(time.Second)
		f.healthIs(outbox.ErrStale)
		f.Pause()
		f.healthIs(outbox.ErrStale, outbox.ErrPaused)
		f.Resume()
		time.Sleep(time.Hour)
		f.healthIs()
	})
}
