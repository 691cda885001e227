package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

var quiet = outbox.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// receiver is a destination that remembers.
type receiver struct {
	mu    sync.Mutex
	times map[outbox.ID]int
	last  map[string]outbox.ID // of a key: the event delivered last, for the first time
	wrong []string
	total atomic.Int64
}

func newReceiver() *receiver {
	return &receiver{times: map[outbox.ID]int{}, last: map[string]outbox.ID{}}
}

func (r *receiver) publish(_ context.Context, e outbox.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Add(1)
	if r.times[e.ID]++; r.times[e.ID] > 1 || e.Key == "" {
		return nil
	}
	if last := r.last[e.Key]; e.ID.Compare(last) < 0 {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %s after %s", e.Key, e.ID, last))
	}
	r.last[e.Key] = e.ID
	return nil
}

// load is what goes on while a server is killed.
type load struct {
	*receiver
	stores   []*postgres.Store
	mu       sync.Mutex // guards accepted
	accepted map[outbox.ID]bool
	unknown  atomic.Int64 // accepted or not
}

// produce creates until ctx ends.
func (l *load) produce(ctx context.Context, s *postgres.Store) {
	for i := 0; ctx.Err() == nil; i++ {
		tasks := []outbox.Task{event("a", key(fmt.Sprint(i%7))), event("b")}
		err := s.Create(context.WithoutCancel(ctx), tasks)
		switch {
		case err == nil:
			l.mu.Lock()
			l.accepted[tasks[0].ID], l.accepted[tasks[1].ID] = true, true
			l.mu.Unlock()
		case errors.Is(err, outbox.ErrOutcomeUnknown):
			l.unknown.Add(2)
		}
	}
}

// goesOn returns when some more have been delivered.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	now := l.total.Load()
	require.Eventually(t, func() bool { return l.total.Load() > now+200 }, 3*soon, tick)
}

// The server is killed under load, again and again, with all that it had not written yet:
// what was accepted is delivered (P1, P2), in the order of its key (P4).
func TestCrash_ServerUnderLoad(t *testing.T) {
	dsn(t) // a server can be had
	srv, err := newServer("wal_writer_delay=50ms")
	require.NoError(t, err)
	t.Cleanup(srv.remove)
	const kills, producers = 2, 4
	l := &load{receiver: newReceiver(), accepted: map[outbox.ID]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	produce, enough := context.WithCancel(t.Context())
	defer enough()
	var consuming, producing sync.WaitGroup
	for _, driver := range drivers {
		db, err := sql.Open(driver, srv.dsn())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		s := open(t, db, defaultTable, postgres.WithRetryInterval(20*time.Millisecond), postgres.WithLease(time.Second))
		l.stores = append(l.stores, s)
		ob := outbox.New(s, quiet, outbox.WithPublishTimeout(time.Second/2))
		consuming.Go(func() {
			for ctx.Err() == nil {
				_ = ob.Start(ctx, l.publish) // it ends when the store cannot be reached for too long
			}
		})
		for range producers / len(drivers) {
			producing.Go(func() { l.produce(produce, s) })
		}
	}
	for range kills {
		l.goesOn(t)
		srv.kill()
		require.NoError(t, srv.start())
	}
	l.goesOn(t)
	enough()
	producing.Wait()
	require.Eventually(t, func() bool {
		st, err := l.stores[0].Stats(t.Context())
		return err == nil && st.Pending+st.InFlight == 0
	}, 3*soon, 5*tick)
	stop()
	consuming.Wait()
	l.check(t)
}

// check closes the stores and compares what was accepted with what was delivered.
func (l *load) check(t *testing.T) {
	t.Helper()
	st, err := l.stores[0].Stats(t.Context())
	require.NoError(t, err)
	for _, s := range l.stores {
		require.NoError(t, s.Audit(t.Context()))
		require.NoError(t, s.Close())
	}
	for id := range l.accepted {
		require.Positive(t, l.times[id], "%s was accepted and not delivered", id)
	}
	require.Empty(t, l.wrong)
	require.LessOrEqual(t, st.Accepted, uint64(len(l.accepted))+uint64(l.unknown.Load()))
	t.Logf("%d accepted, %d in doubt, %d delivered, %d of them again", len(l.accepted), l.unknown.Load(), l.total.Load(), l.total.Load()-int64(len(l.times)))
}

const defaultTable = "goutbox"
