package bolt_test

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// device is a computer whose wall clock shows whatever it is set to. Its monotonic
// clock is that of a bubble, so hours pass at once.
type device struct {
	*testing.T
	h    *harness
	s    *bolt.Store
	wall atomic.Pointer[func() time.Time]
}

// onDevice runs a test on a fresh device whose clock is right.
func onDevice(t *testing.T, f func(d *device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &device{T: t}
		d.set(time.Now())
		d.h = newHarness(bolt.WithWallClock(func() time.Time { return (*d.wall.Load())() }), bolt.WithSegmentBytes(64<<10))
		d.fresh()
		t.Cleanup(func() { require.NoError(t, d.s.Close()) })
		f(d)
		audit(t, d.s)
	})
}

// fresh begins a new store.
func (d *device) fresh() {
	if d.s != nil {
		require.NoError(d, d.s.Close())
	}
	d.s = d.h.open(d.T, d.TempDir()).(*bolt.Store)
}

// set sets the wall clock, which goes on from there.
func (d *device) set(now time.Time) {
	ahead, since := now, time.Now()
	wall := func() time.Time { return ahead.Add(time.Since(since)) }
	d.wall.Store(&wall)
}

// years sets it ahead, or back.
func (d *device) years(n int) { d.set((*d.wall.Load())().AddDate(n, 0, 0)) }

// The ways to end a run. After each a device may come up with another time.
var ends = map[string]func(d *device){
	"close":             func(d *device) { d.s = d.h.reopen(d.T, d.s).(*bolt.Store) },
	"crash":             func(d *device) { settled(d.T, d.s); d.s = d.h.crash(d.T, d.s).(*bolt.Store) },
	"checkpoint, crash": func(d *device) { require.NoError(d, d.s.Flush()); d.s = d.h.crash(d.T, d.s).(*bolt.Store) },
	"lighten, crash":    func(d *device) { require.NoError(d, d.s.Lighten()); d.s = d.h.crash(d.T, d.s).(*bolt.Store) },
}

// eachEnd runs a test once for each.
func eachEnd(t *testing.T, f func(d *device, restart func())) {
	t.Helper()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(d *device) {
				f(d, func() {
					end(d)
					audit(d, d.s)
				})
			})
		})
	}
}

// sleep lets time pass on both clocks.
func (d *device) sleep(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
}

func (d *device) claimed() string {
	d.Helper()
	names := ""
	for _, t := range claim(d.T, d.s, 100) {
		names += t.Name
		done(d.T, d.s, t)
	}
	return names
}

func named(name string) outbox.Task {
	return outbox.Task{Event: outbox.Event{Name: name}, MaxAttempts: 3}
}

// IDs rise and events of one key keep their order, whatever the wall clock shows;
// CreatedAt is what it has shown, as far as that can be kept (P4, P12).
func TestClock_IDsAndOrder(t *testing.T) {
	eachEnd(t, func(d *device, restart func()) {
		var last outbox.ID
		var want []string
		for i, wall := range []time.Time{
			time.Now(), time.Now().AddDate(50, 0, 0), time.Now(), time.Now().AddDate(-50, 0, 0), time.Now().AddDate(0, 0, 1),
			time.Unix(0, 0), time.Unix(0, 0).AddDate(-1, 0, 0), time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10889, 8, 2, 5, 31, 50, 0, time.UTC),
			time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), time.Now(), time.Unix(0, 0),
		} {
			d.set(wall)
			for half := range 2 { // set in the midst of a run, and before one
				list := []outbox.Task{named(fmt.Sprint(i, half, "a")), named(fmt.Sprint(i, half, "b"))}
				for j := range list {
					list[j].Key = "k"
					want = append(want, list[j].Name)
				}
				for _, task := range create(d.T, d.s, list...) {
					require.Positive(d, task.ID.Compare(last), "%v: %s after %s", wall, task.ID, last)
					last = task.ID
					if wall.Year() > 1700 && wall.Year() < 2250 {
						require.WithinDuration(d, wall, task.CreatedAt, time.Minute)
					} else {
						require.Equal(d, wall.Year() > 2000, task.CreatedAt.Year() > 2000, "the nearest that can be kept: %v", task.CreatedAt)
					}
				}
				restart()
			}
		}
		require.Equal(d, want, names(d.T, d.s))
		for _, name := range want {
			require.Equal(d, name, d.claimed())
		}
	})
}

// A delay of a second is a second of the running process.
func TestClock_DelayWhileOpen(t *testing.T) {
	onDevice(t, func(d *device) {
		for _, years := range []int{50, -100, 50, 9000, -12000} {
			task := named("a")
			task.Delay = time.Second
			create(t, d.s, task)
			d.years(years)
			d.sleep(time.Second - time.Millisecond)
			c, err := d.s.Claim(d.Context(), outbox.ClaimRequest{Max: 1})
			require.NoError(d, err)
			require.Empty(d, c.Tasks)
			require.Equal(d, time.Millisecond, c.NextIn)
			d.sleep(time.Millisecond)
			require.Equal(d, "a", d.claimed())
		}
	})
}

// After a restart nothing waits longer than its own delay, also if the clock is
// earlier, ahead, or right; retries included.
func TestClock_DelayAfterRestart(t *testing.T) {
	for _, years := range []int{0, -50, 50, 9000, -3000} {
		t.Run(fmt.Sprint(years), func(t *testing.T) {
			eachEnd(t, func(d *device, restart func()) {
				retried, delayed := named("retried"), named("delayed")
				create(d.T, d.s, retried)
				got := claim(d.T, d.s, 1)[0]
				d.sleep(time.Hour) // the last checkpoint is older than the retry
				require.NoError(d, d.s.Flush())
				d.sleep(time.Hour)
				delayed.Delay = time.Hour
				create(d.T, d.s, delayed)
				require.NoError(d, d.s.Settle(d.Context(), []outbox.Outcome{{ID: got.ID, Token: got.Token, Verdict: outbox.Retry, Delay: 2 * time.Hour}}))
				d.sleep(30 * time.Minute)
				d.years(years)
				restart()
				require.Equal(d, "", d.claimed(), "not before its time")
				// Half an hour of the delay had passed; that was noted by Close, and forgotten in a crash.
				d.sleep(time.Hour)
				require.Equal(d, "delayed", d.claimed())
				d.sleep(time.Hour)
				require.Equal(d, "retried", d.claimed())
			})
		})
	}
}

// A retry tells the time too: what has passed before it is not waited for again.
func TestClock_Retry(t *testing.T) {
	eachEnd(t, func(d *device, restart func()) {
		create(d.T, d.s, named("a"))
		got := claim(d.T, d.s, 1)[0]
		d.sleep(9 * time.Minute)
		settle(d.T, d.s, outbox.Retry, 5*time.Minute, got)
		d.years(-20)
		restart()
		d.sleep(5*time.Minute - time.Second)
		require.Equal(d, "", d.claimed())
		d.sleep(time.Second)
		require.Equal(d, "a", d.claimed())
	})
}

// What was accepted under a wrong clock does not wait until the clock is there
// again, neither open nor closed.
func TestClock_BackFromTheFuture(t *testing.T) {
	eachEnd(t, func(d *device, restart func()) {
		d.years(50)
		d.fresh() // its whole life so far
		for _, name := range []string{"a", "b", "c"} {
			task := named(name)
			task.Delay, task.TTL = map[string]time.Duration{"a": time.Hour, "b": 3 * time.Hour, "c": 30 * time.Hour}[name], 1000*time.Hour
			create(d.T, d.s, task)
		}
		d.years(-50)
		restart()
		require.Equal(d, "", d.claimed())
		d.sleep(time.Hour)
		require.Equal(d, "a", d.claimed())
		require.NoError(d, d.s.Flush())
		// Closed for two hours: the wall clock is decades behind what the store has seen,
		// but it runs.
		d.s = d.h.off(d.T, d.s, 2*time.Hour).(*bolt.Store)
		require.Equal(d, "b", d.claimed())
		d.s = d.h.off(d.T, d.s, 27*time.Hour).(*bolt.Store)
		require.Equal(d, "c", d.claimed())
	})
}

// off closes a store and opens it again so much later.
func (h *harness) off(t *testing.T, s outbox.Store, passed time.Duration) outbox.Store {
	t.Helper()
	require.NoError(t, s.Close())
	time.Sleep(passed)
	return h.open(t, h.dir(s))
}

// A device without a battery for its clock boots in 1970 every hour. A delay of eight
// hours ends all the same, if the store was closed each time.
func TestClock_BootsIn1970(t *testing.T) {
	onDevice(t, func(d *device) {
		d.set(time.Unix(20, 0))
		task := named("a")
		task.Delay = 8 * time.Hour
		create(d.T, d.s, task)
		boots := 0
		for ; d.claimed() == ""; boots++ {
			require.Less(d, boots, 10, "an hour each")
			d.sleep(time.Hour)
			d.set(time.Unix(20, 0))
			ends["close"](d)
		}
		require.GreaterOrEqual(d, boots, 8)
	})
}

// Nothing expires because of the wall clock (R43). An honest break counts.
func TestClock_TTL(t *testing.T) {
	for name, c := range map[string]struct {
		years   int           // the clock is set so much before the restart,
		off     time.Duration // which takes so long
		expired bool
	}{
		"right":                 {0, 0, false},
		"off for an hour":       {0, time.Hour, true},
		"off for half a year":   {0, 180 * 24 * time.Hour, true},
		"back":                  {-50, 0, false},
		"in 1970":               {-30, 0, false},
		"ahead":                 {50, 0, false},
		"ahead by a year":       {1, 0, false},
		"back, off for an hour": {-50, time.Hour, false}, // it may have been an hour, or none
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(d *device) {
				mortal := func(name string) outbox.Task {
					task := named(name)
					task.TTL = time.Hour
					return task
				}
				create(d.T, d.s, mortal("a"), mortal("b"))
				held := claim(d.T, d.s, 1)[0]
				d.sleep(30 * time.Minute)
				require.NoError(d, d.s.Settle(d.Context(), []outbox.Outcome{{ID: held.ID, Token: held.Token, Verdict: outbox.Retry}}))
				d.years(c.years)
				d.s = d.h.off(d.T, d.s, c.off).(*bolt.Store)
				if c.expired {
					require.Equal(d, "", d.claimed())
					require.EqualValues(d, 2, stats(d.T, d.s).DroppedBy.Expired)
					return
				}
				d.sleep(29 * time.Minute)
				got := claim(d.T, d.s, 1)
				require.Len(d, got, 1, "it has not lived its time yet")
				done(d.T, d.s, got...)
				d.sleep(2 * time.Minute)
				require.Equal(d, "", d.claimed())
				require.EqualValues(d, 1, stats(d.T, d.s).DroppedBy.Expired, "now it has")
			})
		})
	}
}

// Delays, leases and times-to-live may be as long as a number can say, and as wrong.
func TestClock_Edges(t *testing.T) {
	for _, wall := range []time.Time{time.Now(), time.Unix(0, 0), time.Date(-9000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(50000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run(fmt.Sprint(wall.Year()), func(t *testing.T) {
			onDevice(t, func(d *device) {
				d.set(wall)
				d.fresh()
				long, mortal, negative, soon := named("long"), named("mortal"), named("negative"), named("soon")
				long.Delay, mortal.TTL, mortal.Delay = math.MaxInt64, math.MaxInt64, math.MaxInt64-1
				negative.Delay, negative.TTL, negative.Lease = math.MinInt64, math.MinInt64, math.MinInt64
				soon.Delay, soon.TTL = time.Second, 2*time.Second
				held := named("held")
				held.Lease, held.TTL = math.MaxInt64, math.MaxInt64
				made := create(d.T, d.s, long, mortal, negative, soon, held)
				require.Equal(d, outbox.InFlight, made[4].State)
				require.NoError(d, d.s.Flush())
				require.Equal(d, "negative", d.claimed())
				c, err := d.s.Claim(d.Context(), outbox.ClaimRequest{Max: 1, Lease: math.MaxInt64})
				require.NoError(d, err)
				require.Equal(d, time.Second, c.NextIn)
				for _, end := range ends {
					end(d)
					d.sleep(time.Second)
				}
				require.Equal(d, "held", d.claimed(), "soon has expired, the others wait")
				require.EqualValues(d, 1, stats(d.T, d.s).DroppedBy.Expired)
				require.Equal(d, []string{"long", "mortal"}, names(d.T, d.s))
				c, err = d.s.Claim(d.Context(), outbox.ClaimRequest{Max: 1})
				require.NoError(d, err)
				require.Greater(d, c.NextIn, 49*365*24*time.Hour)
				require.NoError(d, d.s.Settle(d.Context(), nil))
			})
		})
	}
}
