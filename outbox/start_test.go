package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

func TestStart_PublishesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(nil)
		before := f.enqueue("before")
		f.start(r.publish)
		time.Sleep(10 * time.Second)
		after := f.enqueue("after", outbox.WithHeader("trace", "7"))
		synctest.Wait()

		calls := r.calls()
		require.Equal(t, "before after", r.names())
		require.Equal(t, []time.Duration{0, 10 * time.Second}, r.times())
		require.Equal(t, []outbox.ID{before, after}, []outbox.ID{calls[0].event.ID, calls[1].event.ID})
		require.Equal(t, 1, calls[1].event.Attempt)
		require.Equal(t, map[string]string{"trace": "7"}, calls[1].event.Headers)
		require.Equal(t, uint64(2), f.stats().Delivered)
	})
}

// A refused event comes back on the schedule of the backoff, under the same ID (P2),
// and dies with its last attempt.
func TestStart_RetriesUntilDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBackoff(func(attempt int) time.Duration { return time.Duration(attempt*attempt) * time.Second }))
		r := f.receiver(answers(errRefused))
		f.start(r.publish)
		id := f.enqueue("e", outbox.WithMaxAttempts(4))
		time.Sleep(time.Hour)

		s := time.Second
		require.Equal(t, []time.Duration{0, 1 * s, 5 * s, 14 * s}, r.times())
		for i, c := range r.calls() {
			require.Equal(t, id, c.event.ID)
			require.Equal(t, i+1, c.event.Attempt)
		}
		task := f.task()
		require.Equal(t, outbox.Dead, task.State)
		require.Equal(t, outbox.ReasonExhausted, task.Reason)
		require.Equal(t, 4, task.Attempts)
		require.Len(t, task.Failures, 4)
		require.Equal(t, "refused", task.Failures[3].Error)
		require.Equal(t, f.began.Add(14*s).UTC(), task.Failures[3].At)
		require.Equal(t, []string{"outbox: event is dead reason=attempts exhausted error=refused"},
			f.log.at(slog.LevelError, "error", "reason"))
		require.Empty(t, f.log.at(slog.LevelWarn))
		require.Len(t, f.log.at(slog.LevelDebug), 3, "one line for each attempt, and no second one for the last")
	})
}

func TestStart_DueTimesAreExact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1)) // for the order
		r := f.receiver(nil)
		f.start(r.publish)
		f.enqueue("hour", outbox.WithDelay(time.Hour))
		f.enqueue("odd", outbox.WithDelay(90*time.Second+1))
		f.enqueue("second", outbox.WithDueAt(time.Now().Add(time.Second)))
		f.enqueue("past", outbox.WithDueAt(time.Now().Add(-time.Second)))
		f.enqueue("zero", outbox.WithDelay(time.Hour), outbox.WithDueAt(time.Time{}))
		time.Sleep(2 * time.Hour)

		require.Equal(t, "past zero second odd hour", r.names())
		require.Equal(t, []time.Duration{0, 0, time.Second, 90*time.Second + 1, time.Hour}, r.times())
	})
}

func TestStart_FindsWorkUnaskedAtTheLoopInterval(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []outbox.Option
		want time.Duration
	}{
		{"by default each minute", nil, time.Minute},
		{"as set", []outbox.Option{outbox.WithLoopInterval(time.Second)}, time.Second},
		{"zero is the default", []outbox.Option{outbox.WithLoopInterval(0)}, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := mem.New()
				f := setup(t)
				f.Outbox = outbox.New(mute{s}, append(c.opts, quiet())...)
				r := f.receiver(nil)
				f.start(r.publish)
				synctest.Wait()
				_, err := outbox.New(s).Enqueue(t.Context(), "by another one", nil)
				require.NoError(t, err)
				time.Sleep(time.Hour)
				require.Equal(t, []time.Duration{c.want}, r.times())
			})
		})
	}
}

func TestStart_IsWokenByTheNotifierOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(nil)
		f.start(r.publish)
		time.Sleep(time.Second)
		_, err := outbox.New(f.store).Enqueue(t.Context(), "by another one", nil)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Equal(t, []time.Duration{time.Second}, r.times())
	})
}

func TestOutbox_Wake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := mem.New()
		f := setup(t)
		f.Outbox = outbox.New(mute{s}, quiet())
		f.Wake() // with nobody there
		r := f.receiver(nil)
		f.start(r.publish)
		synctest.Wait()
		_, err := outbox.New(s).Enqueue(t.Context(), "by another one", nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		f.Wake()
		time.Sleep(time.Hour)
		require.Equal(t, []time.Duration{time.Second}, r.times())
	})
}

// Two Starts on one outbox share the work, and both are woken for it.
func TestStart_Twice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		slow := func(context.Context, outbox.Event) error { time.Sleep(time.Second); return nil }
		a, b := f.receiver(slow), f.receiver(slow)
		stopA := f.start(a.publish)
		f.start(b.publish)
		synctest.Wait()
		f.enqueue("one")
		synctest.Wait()
		f.enqueue("two")
		synctest.Wait()
		require.Len(t, a.calls(), 1)
		require.Len(t, b.calls(), 1)

		stopA()
		f.enqueueMany("e", 100)
		time.Sleep(time.Hour)
		require.Len(t, a.calls(), 1, "it was stopped")
		require.Len(t, b.calls(), 101)
		require.Equal(t, uint64(102), f.stats().Delivered)
	})
}

// P4: events of one key, one at a time and in order, however many publishers there
// are, and with refusals between.
func TestStart_KeepsTheOrderOfAKey(t *testing.T) {
	const keys, each = 20, 25
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var mu sync.Mutex
		busy, next, n := map[string]bool{}, map[string]int{}, 0
		publish := func(_ context.Context, e outbox.Event) error {
			mu.Lock()
			if busy[e.Key] {
				t.Errorf("key %s: two at a time", e.Key)
			}
			busy[e.Key] = true
			n++
			fail, takes := n%7 == 0, time.Duration(n%5)*time.Millisecond
			mu.Unlock()
			time.Sleep(takes)
			mu.Lock()
			defer mu.Unlock()
			busy[e.Key] = false
			if fail {
				return errRefused
			}
			var i int
			if err := e.Decode(&i); err != nil || i != next[e.Key] {
				t.Errorf("key %s: got event %d, want %d (%v)", e.Key, i, next[e.Key], err)
			}
			next[e.Key]++
			return nil
		}
		f.start(publish)
		for i := range each {
			for k := range keys {
				_, err := f.Enqueue(t.Context(), "e", i, outbox.WithKey(fmt.Sprint("k", k)), outbox.WithMaxAttempts(50))
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Hour)
		require.Equal(t, uint64(keys*each), f.stats().Delivered)
	})
}

func TestStart_Concurrency(t *testing.T) {
	for _, c := range []struct{ set, want int }{{0, 16}, {-1, 16}, {1, 1}, {5, 5}, {100, 100}} {
		t.Run(fmt.Sprint(c.set), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(c.set))
				var now, most atomic.Int64
				f.start(func(context.Context, outbox.Event) error {
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Second)
					now.Add(-1)
					return nil
				})
				f.enqueueMany("e", 300)
				time.Sleep(time.Second / 2)
				st := f.stats()
				require.Equal(t, uint64(c.want), st.InFlight, "with slow publishers nothing is claimed ahead")
				time.Sleep(time.Hour)
				require.Equal(t, int64(c.want), most.Load())
				require.Equal(t, uint64(300), f.stats().Delivered)
			})
		})
	}
}

type ctxKey struct{}

// The context of an attempt: the values of Start's, the publish timeout, and
// nothing else that ends it.
func TestStart_ContextOfAnAttempt(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []outbox.Option
		want time.Duration
	}{
		{"default", nil, 30 * time.Second},
		{"set", []outbox.Option{outbox.WithPublishTimeout(time.Minute)}, time.Minute},
		{"negative", []outbox.Option{outbox.WithPublishTimeout(-1)}, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, c.opts...)
				var after context.Context
				r := f.receiver(func(ctx context.Context, _ outbox.Event) error {
					require.Equal(t, "v", ctx.Value(ctxKey{}))
					end, ok := ctx.Deadline()
					require.True(t, ok)
					require.Equal(t, c.want, time.Until(end))
					require.NoError(t, ctx.Err())
					derived, cancel := context.WithCancel(ctx)
					defer cancel()
					require.Equal(t, "v", derived.Value(ctxKey{}))
					<-derived.Done()
					require.Zero(t, time.Until(end))
					require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
					after = ctx
					return ctx.Err()
				})
				f.run(func(ctx context.Context) error {
					return f.Start(context.WithValue(ctx, ctxKey{}, "v"), r.publish)
				})
				f.enqueue("e")
				time.Sleep(c.want + time.Millisecond)
				synctest.Wait()
				require.ErrorIs(t, after.Err(), context.DeadlineExceeded)
			})
		})
	}
}

// What a publisher keeps of the context ends with the attempt.
func TestStart_ContextEndsWithTheAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var kept []context.Context
		f.start(func(ctx context.Context, e outbox.Event) error {
			if e.Name == "watches" {
				_ = ctx.Done()
			}
			kept = append(kept, ctx)
			return nil
		})
		f.enqueue("watches")
		synctest.Wait()
		f.enqueue("does not")
		synctest.Wait()
		for _, ctx := range kept {
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		}
		time.Sleep(time.Hour)
		for _, ctx := range kept {
			require.ErrorIs(t, ctx.Err(), context.Canceled, "for ever the same")
		}
	})
}

func TestStart_PublisherPanics(t *testing.T) {
	for _, c := range []struct {
		name string
		p    outbox.Publisher
		want string
	}{
		{"with a text", func(context.Context, outbox.Event) error { panic("boom") }, "publisher panicked: boom"},
		{"with a mark, which says nothing then", func(context.Context, outbox.Event) error {
			panic(outbox.Permanent(errRefused))
		}, "publisher panicked: refused"},
		{"over nil", func(_ context.Context, e outbox.Event) error { *(*int)(nil) = 1; return nil }, "publisher panicked: runtime error"},
		{"by calling nil", func(ctx context.Context, e outbox.Event) error { return outbox.Publisher(nil)(ctx, e) }, "publisher panicked: runtime error"},
		{"in the methods of its error", func(context.Context, outbox.Event) error { return (*brokenError)(nil) }, "publisher returned a *outbox_test.brokenError that panics"},
		{"by ending its goroutine", func(context.Context, outbox.Event) error { runtime.Goexit(); return nil }, "publisher ended its goroutine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(1))
				r := f.receiver(c.p)
				f.start(func(ctx context.Context, e outbox.Event) error {
					if e.Name == "good" {
						return nil
					}
					return r.publish(ctx, e)
				})
				f.enqueue("bad", outbox.WithMaxAttempts(2))
				f.enqueue("good")
				time.Sleep(time.Minute)
				require.Equal(t, []time.Duration{0, time.Second}, r.times())
				task := f.task()
				require.Equal(t, outbox.Dead, task.State)
				require.Contains(t, task.Failures[1].Error, c.want)
				require.Equal(t, uint64(1), f.stats().Delivered)
				if strings.Contains(c.want, "panicked") {
					require.Len(t, f.log.at(slog.LevelWarn), 1)
					require.Contains(t, f.log.at(slog.LevelWarn, "stack")[0], "start_test.go")
					require.Contains(t, f.log.at(slog.LevelError, "stack")[0], "start_test.go")
				}
			})
		})
	}
}

type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }

// storeErrors are what a store may fail with, and whether Start ends with it.
var storeErrors = []struct {
	name  string
	err   error
	final bool
}{
	{"closed", outbox.ErrClosed, true},
	{"poisoned", fmt.Errorf("bolt: %w", outbox.ErrPoisoned), true},
	{"corrupt", fmt.Errorf("bolt: %w", outbox.ErrCorrupt), true},
	{"in passing", errors.New("disk is tired"), false},
}

// fiveTimes fails the first five calls.
func fiveTimes(err error) func(call int) error {
	return func(call int) error {
		if call <= 5 {
			return err
		}
		return nil
	}
}

func TestStart_ClaimFails(t *testing.T) {
	for _, c := range storeErrors {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.store.onClaim = fiveTimes(c.err)
				f.enqueue("e")
				r := f.receiver(nil)
				if c.final {
					require.ErrorIs(t, f.Start(t.Context(), r.publish), c.err)
					require.Empty(t, r.calls())
					return
				}
				f.start(r.publish)
				for range 100 {
					f.enqueue("more") // must not make it ask more often
				}
				time.Sleep(time.Minute)
				ms := time.Millisecond
				require.Equal(t, (100+200+400+800+1600)*ms, r.times()[0])
				require.Len(t, f.log.at(slog.LevelWarn), 5)
				require.Equal(t, uint64(101), f.stats().Delivered)
			})
		})
	}
}

func TestStart_SettleFails(t *testing.T) {
	for _, c := range storeErrors {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.store.onSettle = fiveTimes(c.err)
				f.enqueue("e")
				r := f.receiver(nil)
				if c.final {
					require.ErrorIs(t, f.Start(t.Context(), r.publish), c.err)
					require.Len(t, r.calls(), 1)
					return
				}
				f.start(r.publish)
				time.Sleep(time.Minute)
				require.Len(t, r.calls(), 1, "it is published once, and settled until that works")
				require.Len(t, f.log.at(slog.LevelWarn), 5)
				require.Equal(t, uint64(1), f.stats().Delivered)
			})
		})
	}
}

func TestStart_NilPublisher(t *testing.T) {
	ob := outbox.New(mem.New())
	require.ErrorIs(t, ob.Start(t.Context(), nil), outbox.ErrInvalid)
	require.ErrorIs(t, ob.StartBatch(t.Context(), nil), outbox.ErrInvalid)
	_, err := ob.Drain(t.Context(), nil)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorIs(t, ob.Do(t.Context(), "e", nil, nil), outbox.ErrInvalid)
	require.ErrorIs(t, ob.Start(t.Context(), outbox.Untyped(nil)), outbox.ErrInvalid)
}

func TestStart_DeadLetterRequeued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(answers(outbox.Permanent(errRefused), nil))
		f.start(r.publish)
		id := f.enqueue("e", outbox.WithMaxAttempts(7))
		time.Sleep(time.Hour)
		task := f.task()
		require.Equal(t, outbox.ReasonPermanent, task.Reason)
		require.Equal(t, 1, task.Attempts)
		require.Equal(t, uint64(1), f.stats().Dead)

		n, err := f.Requeue(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		synctest.Wait()
		require.Equal(t, []time.Duration{0, time.Hour}, r.times())
		require.Equal(t, id, r.calls()[1].event.ID)
		require.Equal(t, 1, r.calls()[1].event.Attempt)
		st := f.stats()
		require.Equal(t, uint64(1), st.Delivered)
		require.Equal(t, uint64(1), st.Requeued)
	})
}

// Deleting the head of a key lets the next one through.
func TestOutbox_DeleteWakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		r := f.receiver(nil)
		f.start(r.publish)
		head := f.enqueue("head", outbox.WithKey("k"), outbox.WithDelay(time.Hour))
		f.enqueue("next", outbox.WithKey("k"))
		time.Sleep(time.Second)
		n, err := f.Delete(t.Context(), head)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		time.Sleep(2 * time.Hour)
		require.Equal(t, "next", r.names())
		require.Equal(t, []time.Duration{time.Second}, r.times())
	})
}

// What is claimed ahead is bounded by bytes as well (P7).
func TestStart_QueueIsBoundedByBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueueMany("quick", 1000)
		big := make([]byte, 3<<20)
		for range 20 {
			_, err := f.Enqueue(t.Context(), "big", big)
			require.NoError(t, err)
		}
		f.start(func(_ context.Context, e outbox.Event) error {
			if e.Name == "big" {
				time.Sleep(time.Second)
			}
			return nil
		})
		time.Sleep(time.Second / 2)
		st := f.stats()
		require.Equal(t, uint64(1000), st.Delivered)
		require.True(t, 1 <= st.InFlight && st.InFlight <= 4, "8 MiB ahead, and one under way: %+v", st)
		time.Sleep(time.Minute)
		require.Equal(t, uint64(1020), f.stats().Delivered)
	})
}

// A lease outlasts the attempt, and what the task waits for before, but has its limit.
func TestStart_Lease(t *testing.T) {
	for _, c := range []struct{ timeout, least, most time.Duration }{
		{30 * time.Second, 2 * time.Minute, 3 * time.Hour},
		{10 * time.Hour, outbox.MaxLease, outbox.MaxLease},
		{math.MaxInt64, outbox.MaxLease, outbox.MaxLease},
	} {
		bubble(t, func(t *testing.T) {
			f := setup(t, outbox.WithPublishTimeout(c.timeout))
			stop := f.start(answers(nil))
			synctest.Wait()
			stop()
			require.GreaterOrEqual(t, f.store.lease, c.least)
			require.LessOrEqual(t, f.store.lease, c.most)
		})
	}
}
