package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// poisoned is a destination that one event brings down, at once or by hanging.
func poisoned(hangs bool) outbox.Publisher {
	return func(ctx context.Context, e outbox.Event) error {
		switch {
		case e.Name != "poison":
			time.Sleep(10 * time.Millisecond)
			return nil
		case hangs:
			return obedient(ctx, e)
		}
		return outbox.Unavailable(errRefused)
	}
}

// With one worker nothing ever gets through beside the event that brings the destination
// down, and with nothing else waiting it shuts the gate by itself. Still it dies, after
// some of the others have got through, each soon; and then they wait for nothing.
func TestPoison_ShutsTheGateAlone(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		for _, every := range []time.Duration{5 * time.Second, 10 * time.Minute} {
			t.Run(fmt.Sprintf("hangs %t, another one every %s", hangs, every), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					f := setup(t, outbox.WithConcurrency(1), outbox.NoRamp())
					f.enqueue("poison")
					stop := f.start(poisoned(hangs))
					healthy := 0
					for f.stats().Dead == 0 {
						f.enqueue("healthy")
						healthy++
						require.Less(t, healthy, 120)
						time.Sleep(every)
						if every > 5*time.Minute { // two probes, each with its pause and its timeout
							require.Zero(t, f.stats().Pending-1+f.stats().InFlight+f.stats().Dead)
						}
					}
					require.Equal(t, outbox.ReasonExhausted, f.dead().Reason)
					require.Equal(t, 3, f.dead().Attempts)
					for range 10 {
						f.enqueue("healthy")
						time.Sleep(time.Minute)
					}
					require.Equal(t, uint64(healthy+10), f.stats().Delivered)
					stop()
				})
			})
		}
	}
}

// Of a backlog with one such event nothing is stuck, and with attempts enough nothing
// else is charged.
func TestPoison_InABacklog(t *testing.T) {
	for _, workers := range []int{1, 2, 16} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(workers))
				for i := range 300 {
					if i%100 == 50 {
						f.enqueue("poison")
					}
					f.enqueue("healthy", outbox.WithMaxAttempts(1))
				}
				f.start(poisoned(false))
				time.Sleep(time.Minute)
				require.Equal(t, uint64(300), f.stats().Delivered)
				for range 100 {
					f.enqueue("healthy", outbox.WithMaxAttempts(1))
					time.Sleep(time.Minute)
				}
				require.Equal(t, uint64(400), f.stats().Delivered)
				require.Equal(t, uint64(3), f.stats().Dead)
			})
		})
	}
}

// Under BlockKey it does not die, but holds up its own key only, and that is said, once.
func TestPoison_BlocksItsKeyOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueue("poison", outbox.WithKey("a"))
		f.enqueue("behind", outbox.WithKey("a"))
		f.start(poisoned(false))
		for range 500 {
			f.enqueue("healthy", outbox.WithKey("b"))
			time.Sleep(time.Minute)
		}
		time.Sleep(5 * time.Minute)
		require.Equal(t, uint64(500), f.stats().Delivered)
		all := f.tasks()
		require.Len(t, all, 2)
		require.Greater(t, all[0].Attempts, 3)
		require.Equal(t, []string{"outbox: attempts are used up, the key waits for this event event=poison key=a attempt=3"},
			f.log.at(slog.LevelError, "event", "key", "attempt"))
	})
}

// A higher class does not keep the probes to itself.
func TestPoison_OfAHigherClass(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		r := f.receiver(poisoned(false))
		f.enqueue("poison", outbox.WithPriority(outbox.High))
		f.start(r.publish)
		time.Sleep(time.Hour)
		f.enqueueMany("healthy", 10, outbox.WithPriority(outbox.Low))
		time.Sleep(17 * time.Minute) // the class Low has every 16th turn
		require.Equal(t, uint64(10), f.stats().Delivered)
	})
}

// One call is enough to tell one event of a batch from the others.
func TestPoison_InABatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueue("poison", outbox.WithMaxAttempts(1))
		f.enqueueMany("healthy", 10)
		f.startBatch(func(events []outbox.Event) []error {
			errs := make([]error, len(events))
			for i, e := range events {
				errs[i] = poisoned(false)(t.Context(), e)
			}
			return errs
		})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, uint64(1), f.stats().Dead)
		require.Equal(t, uint64(10), f.stats().Delivered)
	})
}

// A drain sees the event once. What gets through beside it keeps it going.
func TestPoison_InADrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(2))
		f.enqueue("poison")
		f.enqueueMany("healthy", 100)
		n, err := f.Drain(t.Context(), func(ctx context.Context, e outbox.Event) error {
			if e.Name == "poison" {
				time.Sleep(100 * time.Millisecond)
			}
			return poisoned(false)(ctx, e)
		})
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 100, Retried: 1, Waiting: 1}, n)
	})
}

// Several at once look like an outage, and are not blamed. Fewer are.
func TestPoison_Several(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		f.enqueueMany("poison", 3, outbox.WithMaxAttempts(1))
		f.start(poisoned(false))
		alarms := func() {
			for range 20 {
				f.enqueue("alarm", outbox.WithPriority(outbox.High))
				time.Sleep(10 * time.Minute)
			}
		}
		alarms()
		require.Equal(t, uint64(20), f.stats().Delivered)
		require.Zero(t, f.stats().Dead)
		_, err := f.Delete(t.Context(), f.tasks()[0].ID)
		require.NoError(t, err)
		alarms()
		require.Equal(t, uint64(40), f.stats().Delivered)
		require.Equal(t, uint64(2), f.stats().Dead)
	})
}

// What is under way as a link breaks is not blamed, however often it happens, though
// others got through beside it.
func TestPoison_UnderWayAsTheLinkBreaks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.NoRamp())
		var l link
		f.start(func(ctx context.Context, e outbox.Event) error {
			if e.Name == "slow" {
				time.Sleep(10 * time.Second)
			}
			return l.answer(ctx, e)
		})
		f.enqueueMany("slow", 4, outbox.WithMaxAttempts(1), outbox.WithPriority(outbox.Low))
		for range 10 {
			f.enqueueMany("quick", 10, outbox.WithMaxAttempts(1))
			time.Sleep(3 * time.Second)
			l.down.Store(true)
			f.enqueueMany("quick", 10, outbox.WithMaxAttempts(1))
			time.Sleep(30 * time.Second)
			l.down.Store(false)
			f.Wake()
		}
		time.Sleep(time.Minute)
		require.Equal(t, uint64(204), f.stats().Delivered)
	})
}

// Two times are for free, with others getting through after each; the third is not.
func TestPoison_TwoTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		r := f.receiver(poisoned(false))
		f.enqueue("poison", outbox.WithMaxAttempts(1))
		f.start(r.publish)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			f.enqueue("healthy")
		}
		time.Sleep(time.Second)
		require.Equal(t, 3, strings.Count(r.names(), "poison"))
		require.Equal(t, uint64(1), f.stats().Dead)
	})
}

// Several that fail at one moment are blamed if others get through beside them.
func TestPoison_SeveralBesideOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("poison", 5)
		f.start(poisoned(true))
		for range 300 {
			f.enqueue("healthy")
			time.Sleep(time.Second)
		}
		require.Equal(t, uint64(5), f.stats().Dead)
		require.Equal(t, uint64(300), f.stats().Delivered)
		require.Empty(t, f.log.at(slog.LevelWarn), "no outage")
	})
}
