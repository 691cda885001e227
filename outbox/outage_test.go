package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// link is a destination that can be down.
type link struct{ down atomic.Bool }

func (l *link) answer(context.Context, outbox.Event) error {
	if l.down.Load() {
		return outbox.Unavailable(errRefused)
	}
	return nil
}

// P6 in one test: a hundred thousand events wait for three days, and it costs
// nothing: no attempt, no write, some thousand probes. Then all is delivered within seconds.
func TestOutage_ThreeDays(t *testing.T) {
	const n = 100_000
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.log.least = slog.LevelInfo
		s := newBacklog()
		f.Outbox = outbox.New(s, outbox.WithLogger(slog.New(f.log)))
		f.enqueueMany("e", n)
		var l link
		l.down.Store(true)
		var probes, first, last atomic.Int64
		f.start(func(ctx context.Context, e outbox.Event) error {
			if l.down.Load() {
				probes.Add(1)
			} else {
				first.CompareAndSwap(0, int64(f.clock()))
				last.Store(int64(f.clock()))
			}
			return l.answer(ctx, e)
		})
		time.Sleep(72 * time.Hour)
		synctest.Wait()

		s.mu.Lock()
		for _, v := range []outbox.Verdict{outbox.Done, outbox.Retry, outbox.Bury} {
			require.Zero(t, s.verdicts[v], "verdict %d", v)
		}
		require.Len(t, s.waiting, n)
		for _, task := range s.waiting {
			if task.Attempts != 0 {
				t.Fatal("an attempt was spent")
			}
		}
		require.Greater(t, probes.Load(), int64(72*60), "a probe a minute at least")
		require.Less(t, probes.Load(), int64(72*60*2+50))
		require.Less(t, s.claims, int(probes.Load())+10, "and nothing else is claimed")
		s.mu.Unlock()
		require.Len(t, f.log.at(slog.LevelWarn), 1)
		require.Empty(t, f.log.at(slog.LevelInfo))

		l.down.Store(false)
		up := f.clock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, n, s.verdicts[outbox.Done])
		require.LessOrEqual(t, time.Duration(first.Load())-up, time.Minute)
		ramp := time.Duration(last.Load() - first.Load())
		require.Greater(t, ramp, 8*time.Second, "not all at once")
		require.Less(t, ramp, 11*time.Second, "but soon")
		require.Len(t, f.log.at(slog.LevelWarn), 1)
		require.Equal(t, []string{"outbox: destination available again"}, f.log.at(slog.LevelInfo))
	})
}

// The pauses between probes grow from about a second to about a minute.
func TestOutage_Probes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(1))
		r := f.receiver(answers(outbox.Unavailable(errRefused)))
		f.start(r.publish)
		f.enqueueMany("e", 50)
		time.Sleep(time.Hour)

		times := r.times()
		require.Equal(t, []time.Duration{0, 0, 0}, times[:3], "three in a row shut the gate")
		most := 2 * time.Second
		for i := 3; i < len(times); i++ {
			pause := times[i] - times[i-1]
			require.GreaterOrEqual(t, pause, most/2, "probe %d", i)
			require.LessOrEqual(t, pause, most, "probe %d", i)
			most = min(2*most, time.Minute)
		}
		// Probes rotate: if it is one event that brings the destination down, the
		// others are tried as well.
		seen := map[outbox.ID]int{}
		for _, c := range r.calls()[:50] {
			seen[c.event.ID]++
		}
		require.GreaterOrEqual(t, len(seen), 47)
		require.Equal(t, map[outbox.Verdict]int{outbox.Release: len(times) + 47}, f.store.verdicts(),
			"what was claimed ahead is given back when the gate shuts")
	})
}

// A lone event is probed with all the same.
func TestOutage_OneEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueue("e")
		time.Sleep(time.Hour)
		require.Greater(t, len(r.calls()), 60)
		l.down.Store(false)
		f.Wake()
		synctest.Wait()
		times := r.times()
		require.Equal(t, time.Hour, times[len(times)-1], "Wake means now")
		require.Equal(t, uint64(1), f.stats().Delivered)
		require.Equal(t, 1, r.calls()[0].event.Attempt)
		require.Equal(t, 1, r.calls()[len(times)-1].event.Attempt)
	})
}

// Wake probes at once, also when a probe is under way on a dead connection.
func TestOutage_WakeWhileAProbeHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.NoRamp())
		var l link
		l.down.Store(true)
		f.start(func(ctx context.Context, e outbox.Event) error {
			if l.down.Load() {
				return obedient(ctx, e)
			}
			return nil
		})
		f.enqueueMany("e", 100)
		time.Sleep(10*time.Minute + 35*time.Second)
		for f.stats().InFlight == 0 { // until a probe hangs
			time.Sleep(time.Second)
		}
		l.down.Store(false)
		f.Wake()
		time.Sleep(time.Millisecond)
		require.Equal(t, uint64(99), f.stats().Delivered, "all but the one that hangs")
		time.Sleep(time.Minute)
		require.Equal(t, uint64(100), f.stats().Delivered)
	})
}

// While the gate is shut new events are accepted, and no reason to claim.
func TestOutage_Accepting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueueMany("e", 3)
		time.Sleep(time.Hour)
		synctest.Wait()
		claims, calls := f.store.claimCount(), len(r.calls())
		for range 100 {
			f.enqueue("more")
			synctest.Wait()
		}
		require.LessOrEqual(t, f.store.claimCount(), claims+1)
		require.LessOrEqual(t, len(r.calls()), calls+1)
	})
}

// A destination that answers, but takes nothing, is no outage, and no end of one.
func TestOutage_RefusedProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.NoRamp(), outbox.WithConcurrency(1), outbox.WithBackoff(func(int) time.Duration { return time.Hour }))
		down := outbox.Unavailable(errRefused)
		r := f.receiver(answers(down, down, down, down, down, down, down, errRefused, errRefused, nil))
		f.start(r.publish)
		f.enqueueMany("e", 100)
		time.Sleep(30 * time.Minute)
		times := r.times()
		require.Len(t, times, 7+2+98)
		for i := 7; i <= 9; i++ {
			if i > 7 {
				require.LessOrEqual(t, times[i]-times[i-1], 2*time.Second, "after an answer the next probe comes soon")
			}
		}
		require.Equal(t, times[9], times[100], "then all flows")
		require.Equal(t, uint64(98), f.stats().Delivered)
		require.Len(t, f.log.at(slog.LevelInfo), 1)
	})
}

// One event that brings the destination down, among others that get through while it
// tries, spends its attempts and dies; no other one does.
func TestOutage_PoisonDies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		f.start(func(ctx context.Context, e outbox.Event) error {
			if e.Name == "poison" {
				return obedient(ctx, e)
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		f.enqueue("poison")
		for i := range 300 {
			f.enqueue(fmt.Sprint("healthy ", i))
			time.Sleep(time.Second)
		}
		task := f.task()
		require.Equal(t, "poison", task.Name)
		require.Equal(t, outbox.Dead, task.State)
		require.Equal(t, outbox.ReasonExhausted, task.Reason)
		require.Equal(t, context.DeadlineExceeded.Error(), task.Failures[0].Error)
		require.Equal(t, uint64(300), f.stats().Delivered)
		require.Empty(t, f.log.at(slog.LevelWarn), "no outage")
	})
}

// With no one else getting through there is nothing to blame the event with.
func TestOutage_FlappingLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var l link
		f.start(l.answer)
		for i := range 200 {
			l.down.Store(i%2 == 1)
			f.enqueueMany("e", 10, outbox.WithMaxAttempts(1))
			time.Sleep(2 * time.Minute)
		}
		l.down.Store(false)
		time.Sleep(2 * time.Minute)
		st := f.stats()
		require.Equal(t, uint64(2000), st.Delivered)
		require.Zero(t, st.Dead)
		require.Len(t, f.log.at(slog.LevelWarn), 100)
		require.Len(t, f.log.at(slog.LevelInfo), 100)
	})
}

// Publishers that do not obey their context are an outage as well.
func TestOutage_Hanging(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		up := make(chan struct{})
		r := f.receiver(func(context.Context, outbox.Event) error { <-up; return nil })
		f.start(r.publish)
		f.enqueueMany("e", 100)
		time.Sleep(24 * time.Hour)
		require.Less(t, len(r.calls()), 40)
		require.Zero(t, f.stats().Dead)
		close(up)
		time.Sleep(5 * time.Minute)
		require.Equal(t, uint64(100), f.stats().Delivered)
	})
}

// What a claim brings that was under way as the gate shut is given back.
func TestOutage_ShutDuringAClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(4))
		f.store.onClaim = func(call int) error {
			if call == 2 {
				time.Sleep(time.Second)
			}
			return nil
		}
		var n atomic.Int64
		r := f.receiver(func(context.Context, outbox.Event) error {
			time.Sleep(time.Duration(n.Add(1)) * 100 * time.Millisecond)
			return outbox.Unavailable(errRefused)
		})
		f.enqueueMany("e", 50)
		f.start(r.publish)
		time.Sleep(1100*time.Millisecond + 1)
		require.Len(t, r.calls(), 4)
		require.Zero(t, f.stats().InFlight)
		require.Len(t, f.log.at(slog.LevelWarn), 1)
	})
}

// A probe that finds nothing to claim does not keep the next one from being made.
func TestOutage_NothingToProbeWith(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var l link
		l.down.Store(true)
		r := f.receiver(l.answer)
		f.start(r.publish)
		f.enqueue("expires", outbox.WithTTL(time.Minute))
		time.Sleep(time.Hour)
		require.Equal(t, uint64(1), f.stats().DroppedBy.Expired)
		calls := len(r.calls())
		l.down.Store(false)
		f.enqueue("new")
		synctest.Wait()
		require.Len(t, r.calls(), calls+1, "the pause is long over")
		require.Equal(t, uint64(1), f.stats().Delivered)
	})
}
