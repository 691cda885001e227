package outbox_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// batch is one call of a batch publisher.
type batch struct {
	size int
	at   time.Duration
}

// batches runs StartBatch with a publisher that takes so long and accepts all, and
// returns how to see its calls, and how to stop it.
func (f *fixture) batches(takes time.Duration) (calls func() []batch, stop func()) {
	var mu sync.Mutex
	var all []batch
	stop = f.run(func(ctx context.Context) error {
		return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
			mu.Lock()
			all = append(all, batch{len(events), f.clock()})
			mu.Unlock()
			time.Sleep(takes)
			return nil
		})
	})
	return func() []batch {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return append([]batch(nil), all...)
	}, stop
}

func TestWithBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1), outbox.WithBatch(3, 1000, 0))
		for _, size := range []int{10, 10, 10, 10, 990, 10, 2000, 1} {
			_, err := f.Enqueue(t.Context(), "e", make([]byte, size))
			require.NoError(t, err)
		}
		sizes := f.startBatch(takesAll)
		synctest.Wait()
		require.Equal(t, []int{3, 2, 1, 1, 1}, *sizes)
	})
}

func TestWithBatch_Defaults(t *testing.T) {
	for _, opts := range []outbox.Option{outbox.WithBatch(0, 0, 0), outbox.WithBatch(-1, -1, -time.Hour)} {
		bubble(t, func(t *testing.T) {
			f := setup(t, outbox.WithConcurrency(1), opts)
			f.enqueueMany("e", 150)
			sizes := f.startBatch(takesAll)
			synctest.Wait()
			require.Equal(t, []int{100, 50}, *sizes)
		})
	}
}

func TestWithBatch_Linger(t *testing.T) {
	const linger = 10 * time.Second
	for _, c := range []struct {
		name        string
		concurrency int
		takes       time.Duration
		accept      func(f *fixture)
		want        []batch
	}{
		{"alone", 4, 0, func(f *fixture) { f.enqueue("e") }, []batch{{1, linger}}},
		{"others come, one by one", 4, 0, func(f *fixture) {
			for range 5 {
				f.enqueue("e")
				time.Sleep(time.Second)
			}
		}, []batch{{5, linger}}},
		{"from its first event on", 4, 0, func(f *fixture) {
			f.enqueue("e")
			time.Sleep(linger - time.Second)
			f.enqueue("e")
			time.Sleep(2 * time.Second)
			f.enqueue("e")
		}, []batch{{2, linger}, {1, 2*linger + time.Second}}},
		{"full by number", 4, 0, func(f *fixture) {
			for range 25 {
				f.enqueue("e")
				time.Sleep(time.Millisecond)
			}
		}, []batch{{10, 9 * time.Millisecond}, {10, 19 * time.Millisecond}, {5, linger + 20*time.Millisecond}}},
		{"full by bytes", 4, 0, func(f *fixture) {
			for range 2 {
				_, err := f.Enqueue(context.Background(), "e", make([]byte, 600))
				require.NoError(f.t, err)
				time.Sleep(time.Second)
			}
		}, []batch{{1, time.Second}, {1, linger + time.Second}}},
		{"the rest of a claim", 4, 0, func(f *fixture) { f.enqueueMany("e", 25) }, []batch{{10, 0}, {10, 0}, {5, linger}}},
		{"it fills while the workers are busy", 1, 15 * time.Second, func(f *fixture) {
			f.enqueueMany("e", 10)
			for range 8 {
				time.Sleep(time.Second)
				f.enqueue("e")
			}
			time.Sleep(time.Second) // long enough for both
		}, []batch{{10, 0}, {8, 15 * time.Second}}},
		{"and it goes when one is free", 1, 8 * time.Second, func(f *fixture) {
			f.enqueueMany("e", 20)
			time.Sleep(time.Second)
		}, []batch{{10, 0}, {10, 8 * time.Second}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(c.concurrency), outbox.WithBatch(10, 1000, linger))
				calls, _ := f.batches(c.takes)
				c.accept(f)
				time.Sleep(time.Minute)
				require.Equal(t, c.want, calls())
				require.Zero(t, f.stats().Pending+f.stats().InFlight)
			})
		})
	}
}

// What lingers as Start ends is given back, and at once.
func TestWithBatch_LingerEndsWithTheStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(10, 0, time.Hour))
		calls, stop := f.batches(0)
		f.enqueueMany("e", 5)
		time.Sleep(time.Minute)
		require.Equal(t, uint64(5), f.stats().InFlight)
		stop()
		require.Equal(t, time.Minute, f.clock())
		require.Empty(t, calls())
		require.Equal(t, uint64(5), f.stats().Pending)
		n, err := f.Drain(t.Context(), answers(nil))
		require.NoError(t, err)
		require.Equal(t, 5, n.Delivered)
		require.Equal(t, time.Minute, f.clock(), "nor does a Drain linger")
	})
}

// A probe waits for no others, and the backlog behind it flows.
func TestWithBatch_LingerInAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(10, 0, time.Minute), outbox.WithConcurrency(1), outbox.NoRamp())
		var mu sync.Mutex // guards up and last
		up := false
		var last []int
		f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
				mu.Lock()
				defer mu.Unlock()
				if last = append(last, len(events)); up {
					return nil
				}
				return []error{outbox.Unavailable(errRefused)}
			})
		})
		f.enqueueMany("e", 50)
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		require.Equal(t, 1, last[len(last)-1])
		up, last = true, nil
		mu.Unlock()
		f.Wake()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, uint64(50), f.stats().Delivered)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, last[0])
		require.LessOrEqual(t, len(last), 1+50/10+1)
	})
}

// The order within a key holds from batch to batch, and with a linger too (P4).
func TestWithBatch_Keys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBatch(10, 0, time.Second))
		var mu sync.Mutex
		got := map[string][]string{}
		f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
				mu.Lock()
				defer mu.Unlock()
				seen := map[string]bool{}
				for _, e := range events {
					require.False(t, seen[e.Key], "two of one key in a batch")
					seen[e.Key] = true
					got[e.Key] = append(got[e.Key], e.Name)
				}
				return nil
			})
		})
		for _, name := range []string{"1", "2", "3", "4", "5"} {
			for _, key := range []string{"a", "b", "c"} {
				f.enqueue(name, outbox.WithKey(key))
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, names := range got {
			require.Equal(t, []string{"1", "2", "3", "4", "5"}, names)
		}
		require.Len(t, got, 3)
	})
}
