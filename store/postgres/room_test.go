package postgres_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// Whoever delivers finds a connection, however many wait for one to accept an event.
func TestRoom_CreatesLeaveConnections(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, _ := newStore(t, driver)
		defer s.Notify(func() {})() // as an outbox that is started
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("free")}))
		tx, ctx := begin(t, openDB(t, driver), sql.LevelDefault)
		require.NoError(t, s.Create(ctx, []outbox.Task{event("first", key("k"))}))
		db.SetMaxOpenConns(4)
		const callers = 20
		canceled, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ended := make(chan error, callers+1)
		for range callers {
			all.Go(func() {
				ended <- s.Create(context.WithoutCancel(t.Context()), []outbox.Task{event("behind", key("k"))})
			})
		}
		require.Eventually(t, func() bool { return s.WaitingForRoom() == callers-2 }, soon, tick)
		all.Go(func() { ended <- s.Create(canceled, []outbox.Task{event("canceled", key("k"))}) })
		require.Eventually(t, func() bool { return s.WaitingForRoom() == callers-1 }, soon, tick)
		require.NoError(t, settle(t, s, outbox.Done, claim(t, s, 9, aWhile)...))
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, tx.Rollback())
		all.Wait()
		close(ended)
		for err := range ended {
			require.NoError(t, err)
		}
		require.Zero(t, s.WaitingForRoom())
		st, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, callers+1, st.Accepted)
		require.EqualValues(t, 1, st.Delivered)
	})
}
