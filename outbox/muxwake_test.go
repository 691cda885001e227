package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// An event wakes the destination that it is for, and no other.
func TestMux_WakesWhomItConcerns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		m := outbox.NewMux()
		for i := range 50 {
			require.NoError(t, m.Handle(fmt.Sprintf("to.%d.*", i), answers(nil)))
		}
		f.startMux(m)
		synctest.Wait()
		before := f.store.claimCount()
		for i := range 100 {
			f.enqueue(fmt.Sprintf("to.%d.event", i%2))
			synctest.Wait()
		}
		require.Zero(t, f.stats().Pending)
		require.LessOrEqual(t, f.store.claimCount()-before, 200)
		f.enqueue("nobody's")
		synctest.Wait()
		require.Equal(t, outbox.ReasonUnhandled, f.dead().Reason)
	})
}

// nameless hides that a store can name what it notifies of.
type nameless struct {
	mute
	notifier outbox.Notifier
}

func (n nameless) Notify(f func()) (stop func()) { return n.notifier.Notify(f) }

// awake is an outbox with destinations a and b, and one for the rest, that would sleep for
// a day if nobody woke them.
type awake struct {
	*fixture
	ob *outbox.Outbox

	mu     sync.Mutex
	got    []string
	answer map[string]func(ctx context.Context, e outbox.Event) error // by name; none: delivered
}

func (a *awake) publish(ctx context.Context, e outbox.Event) error {
	a.mu.Lock()
	a.got = append(a.got, fmt.Sprintf("%s@%v", e.Name, a.clock()))
	answer := a.answer[e.Name]
	a.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, e)
}

// want checks what came meanwhile, and when, in the order of the alphabet.
func (a *awake) want(t *testing.T, calls ...string) {
	t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.Sort(a.got)
	require.Equal(t, calls, a.got)
	a.got = nil
}

// wakeUps are the ways in which an event becomes claimable. Each begins at an hour.
var wakeUps = []struct {
	name string
	does func(t *testing.T, a *awake)
}{
	{"an event", func(t *testing.T, a *awake) {
		a.send(t, "a.1")
		a.want(t, "a.1@1h0m0s")
	}},
	{"a batch of several names", func(t *testing.T, a *awake) {
		_, err := a.ob.EnqueueBatch(t.Context(), []outbox.Event{{Name: "a.1"}, {Name: "b.1"}, {Name: "b.2"}, {Name: "c"}})
		require.NoError(t, err)
		a.want(t, "a.1@1h0m0s", "b.1@1h0m0s", "b.2@1h0m0s", "c@1h0m0s")
	}},
	{"a delay", func(t *testing.T, a *awake) {
		a.send(t, "b.1", outbox.WithDelay(time.Minute))
		time.Sleep(time.Hour)
		a.want(t, "b.1@1h1m0s")
	}},
	{"a retry", func(t *testing.T, a *awake) {
		a.answer["b.1"] = answers(errRefused, nil)
		a.send(t, "b.1")
		time.Sleep(time.Hour)
		a.want(t, "b.1@1h0m0s", "b.1@1h0m1s")
	}},
	{"a retry of Do", func(t *testing.T, a *awake) {
		require.NoError(t, a.ob.Do(t.Context(), "b.1", nil, func(context.Context, outbox.Event) error {
			time.Sleep(time.Second) // the others sleep again
			return errRefused
		}))
		time.Sleep(time.Hour)
		a.want(t, "b.1@1h0m2s")
	}},
	{"the next of a key behind Do", func(t *testing.T, a *awake) {
		require.NoError(t, a.ob.Do(t.Context(), "a.1", nil, func(context.Context, outbox.Event) error {
			a.send(t, "b.1", outbox.WithKey("k"))
			time.Sleep(time.Second)
			return nil
		}, outbox.WithKey("k")))
		a.want(t, "b.1@1h0m1s")
	}},
	{"the next of a key is for others", func(t *testing.T, a *awake) {
		a.answer["a.2"] = answers(outbox.Permanent(errRefused))
		for _, name := range []string{"a.1", "b.1", "a.2", "c", "b.2"} {
			a.send(t, name, outbox.WithKey("k"), outbox.WithKeyPolicy(outbox.ParkKey))
		}
		a.want(t, "a.1@1h0m0s", "a.2@1h0m0s", "b.1@1h0m0s", "b.2@1h0m0s", "c@1h0m0s")
	}},
	{"the head of its key is deleted", func(t *testing.T, a *awake) {
		id := a.send(t, "a.1", outbox.WithKey("k"), outbox.WithDelay(24*time.Hour))
		a.send(t, "b.1", outbox.WithKey("k"))
		a.want(t)
		_, err := a.ob.Delete(t.Context(), id)
		require.NoError(t, err)
		a.want(t, "b.1@1h0m0s")
	}},
	{"the head of its key is replaced", func(t *testing.T, a *awake) {
		a.send(t, "a.1", outbox.WithKey("k"), outbox.WithLatestOnly("l"), outbox.WithDelay(24*time.Hour))
		a.send(t, "b.1", outbox.WithKey("k"))
		a.want(t)
		a.send(t, "c", outbox.WithLatestOnly("l"))
		a.want(t, "b.1@1h0m0s", "c@1h0m0s")
	}},
	{"the head of its key expires", func(t *testing.T, a *awake) {
		a.send(t, "a.1", outbox.WithKey("k"), outbox.WithDelay(24*time.Hour), outbox.WithTTL(time.Minute))
		a.send(t, "b.1", outbox.WithKey("k"))
		time.Sleep(time.Hour)
		a.want(t, "b.1@1h1m0s", "goutbox.gap@1h1m0s")
	}},
	{"a requeue", func(t *testing.T, a *awake) {
		a.answer["b.1"] = answers(outbox.Permanent(errRefused), nil)
		id := a.send(t, "b.1")
		time.Sleep(time.Minute)
		_, err := a.ob.Requeue(t.Context(), id)
		require.NoError(t, err)
		a.want(t, "b.1@1h0m0s", "b.1@1h1m0s")
	}},
	{"a gap behind a gap", func(t *testing.T, a *awake) {
		a.answer[outbox.GapName] = func(context.Context, outbox.Event) error { time.Sleep(8 * time.Second); return nil }
		a.send(t, "a.1", outbox.WithKey("k"), outbox.WithDelay(24*time.Hour), outbox.WithTTL(time.Second))
		a.send(t, "b.1", outbox.WithKey("kk"), outbox.WithDelay(24*time.Hour), outbox.WithTTL(5*time.Second))
		time.Sleep(time.Hour)
		a.want(t, "goutbox.gap@1h0m1s", "goutbox.gap@1h0m9s")
	}},
	{"a pause", func(t *testing.T, a *awake) {
		a.ob.Pause()
		a.send(t, "b.1")
		time.Sleep(time.Minute)
		a.ob.Resume()
		a.want(t, "b.1@1h1m0s")
	}},
	{"a publisher that was given up", func(t *testing.T, a *awake) {
		a.answer["a.1"] = func(context.Context, outbox.Event) error { time.Sleep(time.Minute); return nil }
		a.send(t, "a.1", outbox.WithKey("k"))
		a.send(t, "b.1", outbox.WithKey("k"))
		time.Sleep(time.Hour)
		a.want(t, "a.1@1h0m0s", "b.1@1h1m0s")
	}},
}

// send accepts an event by the outbox under test.
func (a *awake) send(t *testing.T, name string, opts ...outbox.EventOption) outbox.ID {
	t.Helper()
	id, err := a.ob.Enqueue(t.Context(), name, nil, opts...)
	require.NoError(t, err)
	return id
}

// Whatever makes an event claimable wakes its destination, though no other is woken:
// nobody waits for the loop interval. Also if the store can not say whom to wake, and, for
// what the outbox does itself, if it says nothing.
func TestMux_NoWakeUpIsLost(t *testing.T) {
	for _, s := range []struct {
		name string
		of   func(s *spy) outbox.Store
	}{
		{"named", func(s *spy) outbox.Store { return s }},
		{"nameless", func(s *spy) outbox.Store { return nameless{mute{s}, s} }},
		{"mute", func(s *spy) outbox.Store { return mute{s} }},
	} {
		for _, w := range wakeUps {
			t.Run(s.name+"/"+w.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					a := &awake{fixture: setup(t), answer: map[string]func(context.Context, outbox.Event) error{}}
					a.ob = outbox.New(s.of(a.store), outbox.WithLoopInterval(24*time.Hour), outbox.WithGapMarkers(), quiet(),
						outbox.WithPublishTimeout(10*time.Second), outbox.WithBackoff(func(int) time.Duration { return time.Second }))
					m := outbox.NewMux()
					require.NoError(t, m.Handle("a.*", a.publish))
					require.NoError(t, m.Handle("b.*", a.publish))
					require.NoError(t, m.Handle("*", a.publish))
					a.run(func(ctx context.Context) error { return a.ob.StartMux(ctx, m) })
					time.Sleep(time.Hour)
					w.does(t, a)
				})
			})
		}
	}
}

// Others who share the store wake the destination too, if the store says anything.
func TestMux_WokenByAnotherOutbox(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithLoopInterval(24*time.Hour))
		m := outbox.NewMux()
		r := f.receiver(nil)
		require.NoError(t, m.Handle("a.*", r.publish))
		require.NoError(t, m.Handle("b.*", r.publish))
		f.startMux(m)
		f.start(r.publish) // beside it, which takes all
		synctest.Wait()
		other := outbox.New(f.store, quiet())
		_, err := other.Enqueue(t.Context(), "b.1", nil)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, "b.1", r.names())
	})
}

// Who is told of an event as a run ends may still ask where it goes, while the Mux is
// changed for the next. It is for the race detector.
func TestMux_ChangedBetweenRuns(t *testing.T) {
	f := setup(t)
	m := outbox.NewMux()
	require.NoError(t, m.Handle("*", answers(nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = f.Enqueue(context.Background(), "a.1", nil)
		}
		ended <- err
	}()
	for i := range 40 {
		_, err := f.DrainMux(briefly(t), m)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			require.NoError(t, err)
		}
		require.NoError(t, m.Handle(fmt.Sprintf("a.%d", i), answers(nil)))
	}
	cancel()
	require.NoError(t, <-ended)
}

// briefly is a context that ends within a millisecond.
func briefly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
