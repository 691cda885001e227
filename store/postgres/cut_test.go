package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// maxCuts is more messages than any call sends.
const maxCuts = 40

// The connection dies at each message of each call in turn, before the server gets it or
// before the client hears the answer: the call does what it says, once.
func TestCut_EveryMessage(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		for _, after := range []bool{false, true} {
			for _, k := range []string{"", "k"} {
				t.Run(fmt.Sprintf("after %v key %q", after, k), func(t *testing.T) {
					c := newCutter(t, driver)
					n := int64(1)
					for ; n < maxCuts; n++ {
						if c.life(t, n, after, k) {
							break
						}
					}
					require.Less(t, n, int64(maxCuts))
					require.Greater(t, c.p.cuts.Load(), int64(20), "the proxy has cut nothing")
					require.NoError(t, c.s.Audit(t.Context()))
				})
			}
		}
	})
}

// cutter lives the life of an event behind a proxy.
type cutter struct {
	p     *proxy
	db    *sql.DB
	s     *postgres.Store
	table string
}

func newCutter(t *testing.T, driver string) *cutter {
	t.Helper()
	c := &cutter{p: newProxy(t)}
	db, err := sql.Open(driver, "host="+c.p.dir+" user=postgres dbname=postgres sslmode=disable")
	require.NoError(t, err)
	c.db, c.table = db, newTable(t, openDB(t, driver))
	c.s = open(t, db, c.table)
	t.Cleanup(func() {
		require.NoError(t, c.s.Close())
		require.NoError(t, db.Close())
	})
	return c
}

// cut runs f, whose n-th message is the last of its connection, and reports whether f sent fewer.
func (c *cutter) cut(n int64, after bool, f func()) (over bool) {
	before := c.p.cuts.Load()
	c.p.cut(n, after)
	f()
	c.p.cut(-1, false)
	return c.p.cuts.Load() == before
}

// life creates, claims, settles, requeues and deletes, each cut at its n-th message.
func (c *cutter) life(t *testing.T, n int64, after bool, k string) (over bool) {
	t.Helper()
	ctx := t.Context()
	before := c.stats(t)
	over = true
	step := func(what string, f func() error) {
		t.Helper()
		over = c.cut(n, after, func() { require.NoError(t, f(), "%s, cut at message %d", what, n) }) && over
	}
	made := []outbox.Task{event("a", key(k)), event("b", key(k))}
	step("create", func() error { return c.s.Create(ctx, made) })
	require.EqualValues(t, 2, c.stats(t).Accepted-before.Accepted)
	for len(made) > 0 {
		var got outbox.Claimed
		step("claim", func() (err error) {
			got, err = c.s.Claim(ctx, outbox.ClaimRequest{Max: 1, Lease: aWhile})
			return err
		})
		if len(got.Tasks) == 0 { // the server had not noticed yet that the connection which holds it is dead
			require.Less(t, got.NextIn, time.Second)
			require.Eventually(t, func() bool {
				got.Tasks = claim(t, c.s, 1, aWhile)
				return len(got.Tasks) > 0
			}, soon, tick)
		}
		require.Equal(t, made[0].Name, names(got.Tasks), "cut at message %d", n)
		made = made[1:]
		if len(made) == 0 {
			step("settle", func() error { return settle(t, c.s, outbox.Done, got.Tasks...) })
			continue
		}
		step("settle", func() error { return settle(t, c.s, outbox.Bury, got.Tasks...) })
		over = c.admin(t, n, after, got.Tasks[0].ID) && over
	}
	now := c.stats(t)
	require.EqualValues(t, 1, now.Delivered-before.Delivered)
	require.EqualValues(t, 1, now.DroppedBy.Deleted-before.DroppedBy.Deleted)
	require.Zero(t, now.Pending+now.InFlight+now.Dead)
	return over
}

// admin deletes a dead letter. Nothing proves that it was deleted by this call, so when
// the answer is lost the error may say that; then it is deleted all the same.
func (c *cutter) admin(t *testing.T, n int64, after bool, id outbox.ID) (over bool) {
	t.Helper()
	return c.cut(n, after, func() {
		_, err := c.s.Delete(t.Context(), id)
		if after && err != nil {
			require.ErrorIs(t, err, outbox.ErrOutcomeUnknown)
			_, err = c.s.Delete(t.Context(), id)
			require.ErrorIs(t, err, outbox.ErrNotFound)
			return
		}
		require.NoError(t, err, "delete, cut at message %d", n)
	})
}

func (c *cutter) stats(t *testing.T) outbox.Stats {
	t.Helper()
	st, err := c.s.Stats(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	return st
}

// An instance that falls silent in the middle of a claim, its connection open, holds the others up
// for as long as the server waits for it, and no longer.
func TestCut_Frozen(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		for n := int64(1); n < 12; n++ {
			c := newCutter(t, driver)
			c.p.thaw = make(chan struct{})
			thaw := sync.OnceFunc(func() { close(c.p.thaw) })
			t.Cleanup(thaw) // or a test that fails would wait for it
			c.s.SetIdle(50 * time.Millisecond)
			s := open(t, openDB(t, driver), c.table)
			require.NoError(t, s.Create(t.Context(), []outbox.Task{event("1", key("k")), event("2", key("k")), event("3")}))
			done := make(chan error, 1)
			c.p.cut(n, false)
			go func() {
				// Once the server has ended it, it comes back, and may claim what is free: for a moment.
				_, err := c.s.Claim(context.WithoutCancel(t.Context()), outbox.ClaimRequest{Max: 9, Lease: time.Millisecond})
				done <- err
			}()
			frozen := func() bool { return c.p.cuts.Load() > 0 || len(done) > 0 }
			require.Eventually(t, frozen, soon, tick)
			if len(done) > 0 { // it has fewer messages
				require.Greater(t, n, int64(5))
				thaw()
				require.NoError(t, s.Close())
				return
			}
			delivered := 0
			require.Eventually(t, func() bool {
				got := claim(t, s, 9, aWhile)
				delivered += len(got)
				require.NoError(t, settle(t, s, outbox.Done, got...))
				return delivered == 3
			}, soon, tick)
			thaw()
			require.NoError(t, <-done)
			require.NoError(t, s.Audit(t.Context()))
			require.NoError(t, s.Close())
		}
	})
}
