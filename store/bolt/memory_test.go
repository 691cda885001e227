package bolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// heapMeter samples the heap of the process in a goroutine, which ends with the test.
// Two figures are taken, both over what they were with an empty store:
//
//	live  what the last collection has left on the heap: this is what P7 bounds;
//	peak  what is on the heap, garbage that waits for the next collection included.
//	      It is up to twice live at the default GOGC, and is logged only.
type heapMeter struct {
	t     *testing.T
	empty uint64

	mu         sync.Mutex // guards what follows
	live, peak uint64     // the highest since the last stage
}

// readHeap stops nothing, unlike runtime.ReadMemStats.
func readHeap() (live, all uint64) {
	s := [...]metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}

// collected returns what lives, without what pools hold on to for a while.
func collected() uint64 {
	runtime.GC()
	runtime.GC()
	live, _ := readHeap()
	return live
}

func watchHeap(t *testing.T) *heapMeter {
	m := &heapMeter{t: t, empty: collected()}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				m.sample()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return m
}

func (m *heapMeter) sample() {
	live, all := readHeap()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live, m.peak = max(m.live, live), max(m.peak, all)
}

// stage ends a part of the test. At no moment of it may more than most bytes have been
// live beyond those with an empty store, nor more than rest be so at its end.
func (m *heapMeter) stage(name string, most, rest int64) {
	m.t.Helper()
	end := int64(collected() - m.empty)
	m.sample()
	m.mu.Lock()
	live, peak := int64(m.live-m.empty), int64(m.peak-m.empty)
	m.live, m.peak = 0, 0
	m.mu.Unlock()
	const mib = float64(1 << 20)
	m.t.Logf("%-9s live at most %5.1f MiB, at the end %5.1f; with garbage at most %5.1f", name, float64(live)/mib, float64(end)/mib, float64(peak)/mib)
	require.LessOrEqual(m.t, live, most, "P7: live heap over that of an empty store, while %s", name)
	require.LessOrEqual(m.t, end, rest, "P7: live heap over that of an empty store, after %s", name)
}

// crowd is what waits in a test of memory: so many events, made by shape.
type crowd struct {
	events int
	shape  func(i int, t *outbox.Task)
	wait   int // events that wait in the end; 0 = all
	batch  int // events of a Create, at most crowdBatch; 0 = that
}

const (
	crowdBatch   = 1000
	crowdWorkers = 4
)

// work runs f in several goroutines, and fails the test with their first error.
func work(t *testing.T, f func(worker int) error) {
	t.Helper()
	errs := make(chan error, crowdWorkers)
	for i := range crowdWorkers {
		go func() { errs <- f(i) }()
	}
	for range crowdWorkers {
		require.NoError(t, <-errs)
	}
}

// producer makes batches in memory that it uses again and again, so that the events
// themselves do not count.
type producer struct {
	list []outbox.Task
}

func newProducer() *producer {
	p := &producer{list: make([]outbox.Task, crowdBatch)}
	for i := range p.list {
		p.list[i].Payload = make([]byte, 256)
	}
	return p
}

func (p *producer) make(c crowd, first, n int) []outbox.Task {
	for i := range p.list[:n] {
		t := &p.list[i]
		*t = outbox.Task{Event: outbox.Event{Name: "event", Payload: t.Payload}, MaxAttempts: 3}
		binary.BigEndian.PutUint64(t.Payload, uint64(first+i))
		c.shape(first+i, t)
	}
	return p.list[:n]
}

func (c crowd) fill(t *testing.T, s *bolt.Store, producers []*producer) {
	t.Helper()
	var next atomic.Int64
	work(t, func(worker int) error {
		for {
			first := int(next.Add(int64(c.batch))) - c.batch
			if first >= c.events {
				return nil
			}
			list := producers[worker].make(c, first, min(c.batch, c.events-first))
			if err := s.Create(context.Background(), list); err != nil {
				return err
			}
		}
	})
}

// settle claims and settles until nothing is left to claim. It returns how many.
func (c crowd) settle(t *testing.T, s *bolt.Store, verdict outbox.Verdict) int {
	t.Helper()
	var mu sync.Mutex
	seen, total := make([]uint64, c.events/64+1), 0
	note := func(payload []byte) error {
		i := binary.BigEndian.Uint64(payload)
		mu.Lock()
		defer mu.Unlock()
		if seen[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("event %d was claimed twice", i)
		}
		seen[i/64] |= 1 << (i % 64)
		total++
		return nil
	}
	work(t, func(int) error {
		for {
			got, err := s.Claim(context.Background(), outbox.ClaimRequest{Max: c.batch / 4, Lease: time.Hour})
			if err != nil {
				return err
			}
			if len(got.Tasks) == 0 {
				if got.NextIn >= outbox.MaxLease {
					return nil
				}
				runtime.Gosched() // what is next is behind what another worker has claimed
				continue
			}
			outs := make([]outbox.Outcome, len(got.Tasks))
			for i, one := range got.Tasks {
				if err := note(one.Payload); err != nil {
					return err
				}
				outs[i] = outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: verdict}
				if verdict != outbox.Done {
					outs[i].Delay, outs[i].Reason = 100*time.Hour, outbox.ReasonPermanent
					outs[i].Failure = outbox.Failure{At: time.Now(), Attempt: one.Attempt, Error: refused}
				}
			}
			if err := s.Settle(context.Background(), outs); err != nil {
				return err
			}
		}
	})
	return total
}

// refused is the text of an error.
var refused = strings.Repeat("refused ", outbox.MaxErrorBytes/8)

// history is that of an event that was refused often.
func history() (list []outbox.Failure) {
	for i := range outbox.MaxFailures - 1 {
		list = append(list, outbox.Failure{At: time.Now(), Attempt: i + 1, Error: refused})
	}
	return list
}

// delete deletes all there is, page by page.
func (c crowd) delete(t *testing.T, s *bolt.Store) (n int) {
	t.Helper()
	ids := make([]outbox.ID, 0, crowdBatch)
	flush := func() {
		deleted, err := s.Delete(t.Context(), ids...)
		require.NoError(t, err)
		n, ids = n+deleted, ids[:0]
	}
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		if ids = append(ids, task.ID); len(ids) == crowdBatch {
			flush()
		}
	}
	flush()
	return n
}

// bounds are those that a test of memory sets.
type bounds struct {
	busy int64 // live at any moment
	idle int64 // live when nothing is going on and nothing is in memory
	opts []bolt.Option
}

// Two sizes of test: at the store's own bounds, where an event more or less in memory
// does not matter, and with an overlay so small that a tenth of the events is as hard a
// test.
var (
	fullSize  = bounds{busy: 64 << 20, idle: 8 << 20}
	smallSize = bounds{busy: 40 << 20, idle: 8 << 20, opts: []bolt.Option{bolt.WithOverlay(2<<10, 4<<10)}}
)

// With 200,000 events of 256 bytes waiting, the live heap stays within 64 MiB of that
// of an empty store: while they come, while they wait, when the store is opened again,
// while they go; and when they are gone it is nearly what it was (P7).
func TestStore_MemoryIsBounded(t *testing.T) {
	plain := crowd{events: 200_000, shape: func(int, *outbox.Task) {}}
	if underRace {
		plain.events /= 10
	}
	testMemory(t, fullSize, plain, func(s *bolt.Store) int { return plain.settle(t, s, outbox.Done) })
}

// The same for events with keys of all kinds, delayed ones and dead letters: each kind
// has maps and lists of its own in memory. It is the test of small bounds, unless
// GOUTBOX_TORTURE asks for the 200,000.
func TestStore_MemoryIsBoundedByKind(t *testing.T) {
	b, events, keys := smallSize, 50_000, 5_000
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		b, events, keys = fullSize, 200_000, 20_000
	}
	if underRace {
		events, keys = events/10, keys/10
	}
	failures := history()
	for _, one := range []struct {
		name string
		crowd
		verdict outbox.Verdict // 0: they are deleted
	}{
		{"one key", crowd{events: events, shape: func(_ int, t *outbox.Task) { t.Key = "key" }}, outbox.Done},
		{"many keys", crowd{events: events, shape: func(i int, t *outbox.Task) { t.Key = fmt.Sprintf("key %d", i%keys) }}, outbox.Done},
		{"many keys, deleted", crowd{events: events, shape: func(i int, t *outbox.Task) { t.Key = fmt.Sprintf("key %d", i%keys) }}, 0},
		{"delayed", crowd{events: events, shape: func(_ int, t *outbox.Task) { t.Delay = 100 * time.Hour }}, 0},
		{"dead letters", crowd{events: events, shape: func(int, *outbox.Task) {}}, outbox.Bury},
		{"refused", crowd{events: events / 5, batch: crowdBatch / 10, shape: func(_ int, t *outbox.Task) { t.Failures, t.Attempts = failures, len(failures) }}, outbox.Retry},
		{"unique", crowd{events: events, shape: func(i int, t *outbox.Task) { t.Unique = fmt.Sprintf("key %d", i) }}, outbox.Done},
		{"latest only", crowd{events: events, wait: events / 2, shape: func(i int, t *outbox.Task) {
			t.LatestOnly = fmt.Sprintf("key %d", i%(events/2))
		}}, outbox.Done},
	} {
		t.Run(one.name, func(t *testing.T) {
			testMemory(t, b, one.crowd, func(s *bolt.Store) (n int) {
				if one.verdict != 0 {
					n = one.settle(t, s, one.verdict)
				}
				if one.verdict != outbox.Done {
					n = one.delete(t, s)
				}
				return n
			})
		})
	}
}

// testMemory takes a store from empty to full and back; drain says how many events it
// has got rid of.
func testMemory(t *testing.T, b bounds, c crowd, drain func(s *bolt.Store) int) {
	if c.wait == 0 {
		c.wait = c.events
	}
	if c.batch == 0 {
		c.batch = crowdBatch
	}
	dir, opts := t.TempDir(), append(b.opts, quiet)
	producers := make([]*producer, crowdWorkers)
	for i := range producers {
		producers[i] = newProducer()
	}
	s, err := bolt.Open(dir, opts...)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }() // of the last one, or nothing is left to do
	m := watchHeap(t)

	start := time.Now()
	c.fill(t, s, producers)
	t.Logf("filled in %s", time.Since(start))
	m.stage("filling", b.busy, b.busy)
	require.NoError(t, s.Flush()) // as the idle store does by itself, some time later
	require.Zero(t, s.InMemory())
	m.stage("waiting", b.busy, b.idle)
	require.EqualValues(t, c.wait, stats(t, s).Pending)

	require.NoError(t, s.Close())
	s, err = bolt.Open(dir, opts...)
	require.NoError(t, err)
	m.stage("reopening", b.idle, b.idle)

	start = time.Now()
	require.Equal(t, c.wait, drain(s))
	t.Logf("drained in %s", time.Since(start))
	m.stage("draining", b.busy, b.busy)
	require.NoError(t, s.Flush())
	require.Zero(t, s.InMemory())
	m.stage("resting", b.busy, b.idle)
	st := stats(t, s)
	require.Zero(t, st.Pending+st.InFlight+st.Dead)
}

// In an outage nobody claims, so nobody looks anything up in the database: what wants
// to be looked up must not add up, however many keys come and go (P6, P7).
func TestStore_KeysInAnOutage(t *testing.T) {
	s := open(t, t.TempDir())
	keyed := func(round int) []outbox.Task {
		list := tasks(200*round, 200)
		for i := range list {
			list[i].Key = fmt.Sprintf("key %d", i/2)
		}
		return list
	}
	for round := range 20 {
		create(t, s, keyed(round)...)
		require.NoError(t, s.Flush())
		known, asking := s.Lanes()
		require.Zero(t, known)
		require.Zero(t, asking)
	}
	// Deleting brings them into memory for a moment.
	for page := range 8 {
		var ids []outbox.ID
		for task, err := range s.Tasks(t.Context(), outbox.Filter{Limit: 250}) {
			require.NoError(t, err)
			ids = append(ids, task.ID)
		}
		n, err := s.Delete(t.Context(), ids...)
		require.NoError(t, err)
		require.Equal(t, 250, n)
		require.NoError(t, s.Flush())
		known, asking := s.Lanes()
		require.Zero(t, known, "page %d", page)
		require.Zero(t, asking)
	}
	// The others are all there, in their order.
	for n := 2000; n > 0; {
		got := claim(t, s, 100)
		require.Len(t, got, 100, "one of each key")
		done(t, s, got...)
		n -= len(got)
	}
	require.Empty(t, names(t, s))
}
