package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// startBatch runs StartBatch and returns where the sizes of its batches are found,
// after a synctest.Wait. The publisher is called by one at a time.
func (f *fixture) startBatch(answer func(events []outbox.Event) []error) *[]int {
	var mu sync.Mutex
	sizes := &[]int{}
	f.run(func(ctx context.Context) error {
		return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
			mu.Lock()
			defer mu.Unlock()
			*sizes = append(*sizes, len(events))
			return answer(events)
		})
	})
	return sizes
}

func takesAll([]outbox.Event) []error { return nil }

func TestStartBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueueMany("e", 250)
		sizes := f.startBatch(takesAll)
		synctest.Wait()
		require.Equal(t, []int{100, 100, 50}, *sizes)
		f.enqueue("alone")
		synctest.Wait()
		require.Equal(t, []int{100, 100, 50, 1}, *sizes, "it waits for no more")
		require.Equal(t, uint64(251), f.stats().Delivered)
	})
}

func TestStartBatch_IsBoundedByBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		for _, size := range []int{600 << 10, 400 << 10, 100 << 10, 3 << 20, 1} {
			_, err := f.Enqueue(t.Context(), "e", make([]byte, size))
			require.NoError(t, err)
		}
		sizes := f.startBatch(takesAll)
		synctest.Wait()
		require.Equal(t, []int{2, 1, 1, 1}, *sizes)
	})
}

// Each event is judged by its own error.
func TestStartBatch_EventByEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueue("fine")
		f.enqueue("refused")
		f.enqueue("never")
		f.enqueue("late")
		f.enqueue("down") // one behind it gets through, so this is charged
		f.enqueue("fine")
		first := true
		f.startBatch(func(events []outbox.Event) []error {
			if !first {
				return nil
			}
			first = false
			errs := make([]error, len(events))
			for i, e := range events {
				errs[i] = map[string]error{
					"refused": errRefused, "never": outbox.Permanent(errRefused),
					"late": outbox.RetryAfter(errRefused, time.Hour), "down": outbox.Unavailable(errRefused),
				}[e.Name]
			}
			return errs
		})
		synctest.Wait()
		got := map[string]string{}
		for _, task := range f.tasks() {
			got[task.Name] = fmt.Sprint(task.State, " ", task.Attempts, " ", task.DueAt.Sub(f.began))
		}
		require.Equal(t, map[string]string{
			"refused": "waiting 1 1s", "never": "dead 1 0s", "late": "waiting 1 1h0m0s", "down": "waiting 1 1s",
		}, got)
		time.Sleep(2 * time.Hour)
		require.Equal(t, uint64(5), f.stats().Delivered)
		require.Equal(t, uint64(1), f.stats().Dead)
	})
}

// One error for the whole batch: a panic, a wrong number, the end of the goroutine.
func TestStartBatch_WholeBatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func() []error
		says   string
	}{
		{"panic", func() []error { panic("boom") }, "publisher panicked: boom"},
		{"too few", func() []error { return []error{nil, errRefused} }, "batch publisher returned 2 errors for 3 events: refused"},
		{"too many", func() []error { return make([]error, 4) }, "batch publisher returned 4 errors for 3 events: all of them nil"},
		{"empty, but not nil", func() []error { return []error{} }, "0 errors for 3 events"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(1))
				f.enqueueMany("e", 3, outbox.WithMaxAttempts(1))
				f.startBatch(func([]outbox.Event) []error { return c.answer() })
				synctest.Wait()
				for _, task := range f.tasks() {
					require.Equal(t, outbox.Dead, task.State)
					require.Contains(t, task.Failures[0].Error, c.says)
				}
				require.Equal(t, uint64(3), f.stats().Dead)
			})
		})
	}
	t.Run("unavailable", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := setup(t, outbox.WithConcurrency(1))
			f.enqueueMany("e", 30, outbox.WithMaxAttempts(1))
			up := false
			sizes := f.startBatch(func([]outbox.Event) []error {
				if up {
					return nil
				}
				return []error{outbox.Unavailable(errRefused)}
			})
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, 1, (*sizes)[len(*sizes)-1], "a probe is one event")
			require.Zero(t, f.stats().Dead)
			up = true
			f.Wake()
			time.Sleep(time.Minute)
			require.Equal(t, uint64(30), f.stats().Delivered)
		})
	})
}

// A batch holds one event of a key at most, and so the order is kept (P4).
func TestStartBatch_Keys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var got []string
		f.startBatch(func(events []outbox.Event) []error {
			var keys []string
			for _, e := range events {
				keys = append(keys, e.Key)
				got = append(got, e.Name)
			}
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(keys))), len(keys))
			return nil
		})
		f.enqueue("a1", outbox.WithKey("a"))
		f.enqueue("a2", outbox.WithKey("a"))
		f.enqueue("b1", outbox.WithKey("b"))
		f.enqueue("a3", outbox.WithKey("a"))
		synctest.Wait()
		a := slices.DeleteFunc(got, func(s string) bool { return s == "b1" })
		require.Equal(t, []string{"a1", "a2", "a3"}, a)
	})
}

// A batch that hangs is given up as one event is: others go on, and what comes of it
// late counts event by event.
func TestStartBatch_GivesUpOnPublishers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1), outbox.WithBatch(3, 0, 0))
		var second atomic.Bool
		f.run(func(ctx context.Context) error {
			return f.StartBatch(ctx, func(_ context.Context, events []outbox.Event) []error {
				if second.Swap(true) {
					return nil
				}
				time.Sleep(100 * time.Second)
				return []error{nil, outbox.Permanent(errRefused), errRefused}
			})
		})
		f.enqueueMany("e", 5)
		time.Sleep(time.Minute)
		require.Equal(t, uint64(2), f.stats().Delivered)
		require.Equal(t, uint64(3), f.stats().InFlight)
		time.Sleep(45 * time.Second)
		require.Equal(t, uint64(4), f.stats().Delivered, "one of the batch at once, one again")
		require.Equal(t, uint64(1), f.stats().Dead)
	})
}
