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

// The server is killed under load, again and again, with all that it had not written yet:
// what was accepted is delivered (P1, P2), in the order of its key (P4).
func TestCrash_ServerUnderLoad(t *testing.T) {
	dsn(t) // a server can be had
	srv, err := newServer("wal_writer_delay=50ms")
	require.NoError(t, err)
	t.Cleanup(srv.remove)
	const kills, producers = 2, 4
	var dbs []*sql.DB
	var stores []*postgres.Store
	for _, driver := range drivers {
		db, err := sql.Open(driver, srv.dsn())
		require.NoError(t, err)
		dbs = append(dbs, db)
		stores = append(stores, open(t, db, defaultTable, postgres.WithRetryInterval(20*time.Millisecond), postgres.WithLease(time.Second)))
	}
	r := newReceiver()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var consumers, all sync.WaitGroup
	for _, s := range stores {
		ob := outbox.New(s, quiet, outbox.WithPublishTimeout(time.Second/2))
		consumers.Go(func() {
			for ctx.Err() == nil {
				_ = ob.Start(ctx, r.publish) // it ends when the store cannot be reached for too long
			}
		})
	}
	var mu sync.Mutex
	accepted := map[outbox.ID]bool{}
	var unknown atomic.Int64
	produce, enough := context.WithCancel(t.Context())
	defer enough()
	for n := range producers {
		all.Go(func() {
			for i := 0; produce.Err() == nil; i++ {
				tasks := []outbox.Task{event("a", key(fmt.Sprint(i%7))), event("b")}
				err := stores[n%len(stores)].Create(t.Context(), tasks)
				switch {
				case err == nil:
					mu.Lock()
					accepted[tasks[0].ID], accepted[tasks[1].ID] = true, true
					mu.Unlock()
				case errors.Is(err, outbox.ErrOutcomeUnknown):
					unknown.Add(2)
				}
			}
		})
	}
	for range kills {
		now := r.total.Load()
		require.Eventually(t, func() bool { return r.total.Load() > now+200 }, 3*soon, tick)
		srv.kill()
		require.NoError(t, srv.start())
	}
	now := r.total.Load()
	require.Eventually(t, func() bool { return r.total.Load() > now+200 }, 3*soon, tick)
	enough()
	all.Wait()
	require.Eventually(t, func() bool {
		st, err := stores[0].Stats(t.Context())
		return err == nil && st.Pending+st.InFlight == 0
	}, 3*soon, 5*tick)
	stop()
	consumers.Wait()
	st, err := stores[0].Stats(t.Context())
	require.NoError(t, err)
	for _, s := range stores {
		require.NoError(t, s.Audit(t.Context()))
		require.NoError(t, s.Close())
	}
	for _, db := range dbs {
		require.NoError(t, db.Close())
	}
	for id := range accepted {
		require.Positive(t, r.times[id], "%s was accepted and not delivered", id)
	}
	require.Empty(t, r.wrong)
	require.LessOrEqual(t, st.Accepted, uint64(len(accepted))+uint64(unknown.Load()))
	t.Logf("%d accepted, %d in doubt, %d delivered, %d of them again", len(accepted), unknown.Load(), r.total.Load(), r.total.Load()-int64(len(r.times)))
}

const defaultTable = "goutbox"
