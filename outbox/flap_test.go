package outbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// uplink is a destination behind a link that comes and goes. A call takes up to twenty
// milliseconds; one that the link does not survive fails, though it may have arrived.
type uplink struct {
	f *fixture

	mu      sync.Mutex
	down    bool
	cuts    int
	upAt    time.Duration
	waited  bool                 // something waited as the link came back, and nothing got through since
	longest time.Duration        // until something got through after the link was back
	first   map[string][]string  // by key: the numbers of the events, as they arrived for the first time
	seen    map[outbox.ID]string // all that arrived
}

func (l *uplink) publish(_ context.Context, e outbox.Event) error {
	l.mu.Lock()
	cuts, down := l.cuts, l.down
	l.mu.Unlock()
	if down {
		return outbox.Unavailable(errRefused)
	}
	time.Sleep(time.Duration(1 + rand.Int64N(int64(20*time.Millisecond))))
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.seen[e.ID]; !again {
		l.seen[e.ID] = e.Key
		l.first[e.Key] = append(l.first[e.Key], e.Headers["n"])
	}
	if cuts != l.cuts { // the answer is lost
		return outbox.Unavailable(errRefused)
	}
	if l.waited {
		l.longest = max(l.longest, l.f.clock()-l.upAt)
		l.waited = false
	}
	return nil
}

// turn cuts the link, or brings it back.
func (l *uplink) turn(down bool) {
	pending := l.f.stats().Pending
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down = down; down {
		l.cuts++
		l.waited = false
		return
	}
	l.upAt, l.waited = l.f.clock(), pending > 0
}

// A link that goes away a hundred times, at any moment: everything is delivered, in
// order within its key, and no event has an attempt to spare. Nothing waits for a
// restart: what waits goes out within the pause of a probe.
func TestOutage_Flapping(t *testing.T) {
	for _, workers := range []int{1, 16} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(workers))
				f.log.least = 100
				l := &uplink{f: f, first: map[string][]string{}, seen: map[outbox.ID]string{}}
				stop := f.start(l.publish)
				random := rand.New(rand.NewPCG(uint64(workers), 7))
				want := map[string][]string{}
				n := 0
				accept := func() {
					key, number := fmt.Sprint("key ", random.IntN(20)), fmt.Sprint(n)
					want[key] = append(want[key], number)
					f.enqueue("e", outbox.WithKey(key), outbox.WithKeyPolicy(outbox.ParkKey),
						outbox.WithMaxAttempts(1), outbox.WithHeader("n", number))
					n++
				}
				upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
				trickle := func(d time.Duration) {
					for end := f.clock() + d; f.clock() < end; time.Sleep(upTo(4 * time.Second)) {
						accept()
					}
				}
				for range 100 {
					trickle(upTo(90 * time.Second))
					for range 10 { // so that many are under way as the link goes
						accept()
					}
					time.Sleep(upTo(20 * time.Millisecond))
					l.turn(true)
					trickle(upTo(90 * time.Second))
					l.turn(false)
				}
				time.Sleep(2 * time.Minute)
				st := f.stats()
				require.Equal(t, uint64(n), st.Delivered)
				require.Zero(t, st.Dead)
				stop()
				require.Equal(t, want, l.first, "P4")
				require.Greater(t, l.longest, time.Second)
				require.LessOrEqual(t, l.longest, time.Minute+time.Second)
				require.Zero(t, f.store.verdicts()[outbox.Retry])
			})
		})
	}
}
