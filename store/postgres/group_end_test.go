package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// Whose context ends while it waits has done nothing, and says so.
func TestGroup_Withdrawn(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		h := newHeld(t, driver)
		ctx, cancel := context.WithCancel(t.Context())
		gone := h.queue(t, ctx, 1, event("gone"))
		stays := h.queue(t, t.Context(), 2, event("stays"))
		cancel()
		err := <-gone.err
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, outbox.ErrOutcomeUnknown)
		require.Equal(t, "stays", names(h.release(t)))
		require.NoError(t, <-stays.err)
	})
}

// Whose context ends on the way, be it the first of those who go together, leaves and does not know; the
// others do not notice.
func TestGroup_CancelledOnTheWay(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		h := newHeld(t, driver)
		h.s.SetLate(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		leads := h.queue(t, ctx, 1, event("leads"))
		stays := h.queue(t, t.Context(), 2, event("stays"))
		follows := h.queue(t, ctx, 3, event("follows"))
		h.next(t)
		cancel()
		for _, c := range []*creating{leads, follows} {
			err := <-c.err
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, outbox.ErrOutcomeUnknown)
			c.tasks[0].Payload[0] = '?' // it is the caller's again
		}
		all := h.release(t)
		require.NoError(t, <-stays.err)
		require.Equal(t, "leads stays follows", names(all), "they may be accepted, and were")
		require.Equal(t, "leads", string(all[0].Payload))
	})
}

// It waits a little, since the answer is on its way: nobody likes not to know.
func TestGroup_CancelledAndAnswered(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		h := newHeld(t, driver)
		h.s.SetLate(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		c := h.queue(t, ctx, 1, event("a"))
		h.next(t)
		cancel()
		all := h.release(t)
		require.NoError(t, <-c.err)
		require.Equal(t, c.tasks[0].ID, all[0].ID)
	})
}

// Close refuses those who wait, and returns when those on their way know what became of them.
func TestGroup_Close(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		closing := open(t, db, table)
		h := hold(t, closing)
		waits := h.queue(t, t.Context(), 1, event("waits"))
		closed := make(chan error, 1)
		go func() { closed <- closing.Close() }()
		require.ErrorIs(t, <-waits.err, outbox.ErrClosed)
		require.ErrorIs(t, closing.Create(t.Context(), []outbox.Task{event("late")}), outbox.ErrClosed)
		require.Empty(t, closed, "some are on their way")
		close(h.gate)
		require.NoError(t, <-closed)
		for _, c := range h.first {
			require.NoError(t, <-c.err)
		}
		h.first = nil
		require.Equal(t, "first first", names(list(t, s)))
		rows := 0
		require.NoError(t, db.QueryRow("SELECT count(*) FROM "+table+"_ledger WHERE call IS NOT NULL").Scan(&rows))
		require.Zero(t, rows, "it has given up its rows")
	})
}

// A pool with no connection to spare holds up neither a caller whose context ends nor Close.
func TestGroup_NoConnection(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, _, table := newStore(t, driver)
		db := openDB(t, driver)
		alone := open(t, db, table)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		db.SetMaxOpenConns(1)
		h := &held{s: alone}
		ctx, cancel := context.WithCancel(t.Context())
		gone, waits := h.create(ctx, event("gone")), h.create(t.Context(), event("waits"))
		require.Eventually(t, func() bool { waiting, _ := alone.Waiting(); return waiting == 2 }, soon, tick)
		cancel()
		require.NotErrorIs(t, <-gone.err, outbox.ErrOutcomeUnknown)
		closed := make(chan error, 1)
		go func() { closed <- alone.Close() }()
		require.ErrorIs(t, <-waits.err, outbox.ErrClosed)
		require.Eventually(t, func() bool { _, leading := alone.Waiting(); return leading == 0 }, soon, tick)
		require.NoError(t, conn.Close())
		require.NoError(t, <-closed)
		require.Empty(t, list(t, s))
	})
}
