package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

var errRefused = errors.New("refused")

// bubble runs f in fake time. Every test that waits for anything does it in one:
// what is due in a day is due at once, and to the nanosecond.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// fixture is an outbox on a store in memory, with what a test wants to know of it.
type fixture struct {
	*outbox.Outbox
	t     *testing.T
	store *spy
	log   *logbook
	began time.Time
}

// setup makes a fixture. Unless an option says otherwise a refused event waits for
// one second.
func setup(t *testing.T, opts ...outbox.Option) *fixture {
	t.Helper()
	f := &fixture{t: t, store: &spy{Store: mem.New()}, log: &logbook{least: slog.LevelDebug}, began: time.Now()}
	t.Cleanup(func() { require.NoError(t, f.store.Close()) })
	opts = append([]outbox.Option{
		outbox.WithLogger(slog.New(f.log)),
		outbox.WithBackoff(func(int) time.Duration { return time.Second }),
	}, opts...)
	f.Outbox = outbox.New(f.store, opts...)
	return f
}

// start runs Start until stop is called, which is also done at the end of the test.
func (f *fixture) start(p outbox.Publisher) (stop func()) {
	return f.run(func(ctx context.Context) error { return f.Start(ctx, p) })
}

// run runs something that ends with its context, and returns how to end it: the
// context is cancelled, and it must return nil.
func (f *fixture) run(start func(ctx context.Context) error) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(f.t, <-ended)
	})
	f.t.Cleanup(stop)
	return stop
}

// enqueue accepts an event without payload.
func (f *fixture) enqueue(name string, opts ...outbox.EventOption) outbox.ID {
	f.t.Helper()
	id, err := f.Enqueue(context.Background(), name, nil, opts...)
	require.NoError(f.t, err)
	return id
}

// enqueueMany accepts so many events of that name in one batch.
func (f *fixture) enqueueMany(name string, n int, opts ...outbox.EventOption) {
	f.t.Helper()
	events := make([]outbox.Event, n)
	for i := range events {
		events[i].Name = name
	}
	_, err := f.EnqueueBatch(context.Background(), events, opts...)
	require.NoError(f.t, err)
}

// tasks lists what the store has.
func (f *fixture) tasks() (all []outbox.Task) {
	f.t.Helper()
	for t, err := range f.Tasks(context.Background(), outbox.Filter{}) {
		require.NoError(f.t, err)
		all = append(all, t)
	}
	return all
}

// task returns the only task.
func (f *fixture) task() outbox.Task {
	f.t.Helper()
	all := f.tasks()
	require.Len(f.t, all, 1)
	return all[0]
}

// dead returns the only dead letter.
func (f *fixture) dead() outbox.Task {
	f.t.Helper()
	var all []outbox.Task
	for t, err := range f.Tasks(context.Background(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		require.NoError(f.t, err)
		all = append(all, t)
	}
	require.Len(f.t, all, 1)
	return all[0]
}

// stats checks P5 and returns the counters.
func (f *fixture) stats() outbox.Stats {
	f.t.Helper()
	st, err := f.Stats(context.Background())
	require.NoError(f.t, err)
	require.Equal(f.t, st.Accepted, st.Delivered+st.Pending+st.InFlight+st.Dead+st.Dropped, "P5: %+v", st)
	return st
}

// clock tells the time since the fixture was made.
func (f *fixture) clock() time.Duration { return time.Since(f.began) }

// delivery is one call of a publisher.
type delivery struct {
	event outbox.Event
	at    time.Duration
}

// receiver is a destination that remembers. Its publisher does what answer says.
type receiver struct {
	f      *fixture
	answer func(ctx context.Context, e outbox.Event) error // nil: takes everything

	mu  sync.Mutex
	got []delivery
}

func (f *fixture) receiver(answer func(ctx context.Context, e outbox.Event) error) *receiver {
	return &receiver{f: f, answer: answer}
}

func (r *receiver) publish(ctx context.Context, e outbox.Event) error {
	r.mu.Lock()
	r.got = append(r.got, delivery{e, r.f.clock()})
	r.mu.Unlock()
	if r.answer == nil {
		return nil
	}
	return r.answer(ctx, e)
}

// calls returns the calls so far.
func (r *receiver) calls() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// clear forgets the calls so far.
func (r *receiver) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
}

// names returns the names of the events of the calls so far.
func (r *receiver) names() string {
	var all []string
	for _, d := range r.calls() {
		all = append(all, d.event.Name)
	}
	return strings.Join(all, " ")
}

// times returns when the calls so far were made.
func (r *receiver) times() []time.Duration {
	var all []time.Duration
	for _, d := range r.calls() {
		all = append(all, d.at)
	}
	return all
}

// answers gives the errors one after another, the last one for ever.
func answers(errs ...error) func(context.Context, outbox.Event) error {
	var mu sync.Mutex
	return func(context.Context, outbox.Event) error {
		mu.Lock()
		defer mu.Unlock()
		err := errs[0]
		if len(errs) > 1 {
			errs = errs[1:]
		}
		return err
	}
}

// obedient waits for ever, but obeys its context.
func obedient(ctx context.Context, _ outbox.Event) error {
	<-ctx.Done()
	return ctx.Err()
}

// spy is a store that counts, and fails on demand.
type spy struct {
	*mem.Store

	mu       sync.Mutex
	claims   int
	lease    time.Duration // of the last claim
	settles  int
	outcomes []outbox.Outcome
	onClaim  func(call int) error // nil: none fails
	onSettle func(call int) error
	onCreate func(tasks []outbox.Task) error

	onRequeue func() error
}

func (s *spy) Requeue(ctx context.Context, ids ...outbox.ID) (int, error) {
	if s.onRequeue != nil {
		if err := s.onRequeue(); err != nil {
			return 0, err
		}
	}
	return s.Store.Requeue(ctx, ids...)
}

func (s *spy) Create(ctx context.Context, tasks []outbox.Task) error {
	if s.onCreate != nil {
		if err := s.onCreate(tasks); err != nil {
			return err
		}
	}
	return s.Store.Create(ctx, tasks)
}

func (s *spy) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	s.mu.Lock()
	s.claims++
	s.lease = req.Lease
	call, fail := s.claims, s.onClaim
	s.mu.Unlock()
	if fail != nil {
		if err := fail(call); err != nil {
			return outbox.Claimed{}, err
		}
	}
	return s.Store.Claim(ctx, req)
}

func (s *spy) Settle(ctx context.Context, outs []outbox.Outcome) error {
	s.mu.Lock()
	s.settles++
	call, fail := s.settles, s.onSettle
	s.outcomes = append(s.outcomes, outs...)
	s.mu.Unlock()
	if fail != nil {
		if err := fail(call); err != nil {
			return err
		}
	}
	return s.Store.Settle(ctx, outs)
}

// claimCount returns the number of claims so far.
func (s *spy) claimCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

// verdicts counts the outcomes by verdict.
func (s *spy) verdicts() map[outbox.Verdict]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[outbox.Verdict]int{}
	for _, o := range s.outcomes {
		n[o.Verdict]++
	}
	return n
}

// mute hides that a store can notify.
type mute struct{ outbox.Store }

// logbook is a slog.Handler that remembers.
type logbook struct {
	least slog.Level

	mu      sync.Mutex
	records []slog.Record
}

func (l *logbook) Enabled(_ context.Context, level slog.Level) bool { return level >= l.least }
func (l *logbook) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}
func (l *logbook) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logbook) WithGroup(string) slog.Handler      { return l }

// at returns the lines of that level: the message, and the attributes asked for.
func (l *logbook) at(level slog.Level, keys ...string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Level != level {
			continue
		}
		line := r.Message
		r.Attrs(func(a slog.Attr) bool {
			if slices.Contains(keys, a.Key) {
				line += " " + a.String()
			}
			return true
		})
		lines = append(lines, line)
	}
	return lines
}
