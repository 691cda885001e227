package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// lifeRules are about what is around the tasks: closing, contexts, transactions,
// notices.
var lifeRules = []rule{
	{46, "closed", "After Close every call returns ErrClosed; a second Close does nothing.", closedStore},
	{47, "ended context", "A call that changes something does nothing if its context has ended before, and says so.", endedContext},
	{48, "transaction", "Create joins the transaction in its context, and nothing of it is visible or claimed before the commit; a store that cannot join refuses with ErrTxUnsupported.", transaction},
	{49, "notices", "A Notifier tells after tasks have become claimable, until stopped.", notices},
}

func closedStore(c *trial) {
	made := c.create(task("a"))[0]
	claimed := c.one("claim", "a")
	c.settled()
	c.ok("close", c.s.Close())
	c.closed = true
	c.ok("second close", c.s.Close())
	c.fails("create", c.s.Create(c.ctx, []outbox.Task{task("b")}), outbox.ErrClosed)
	_, err := c.s.Claim(c.ctx, outbox.ClaimRequest{Max: 1})
	c.fails("claim", err, outbox.ErrClosed)
	c.fails("settle", c.s.Settle(c.ctx, []outbox.Outcome{outcome(claimed, outbox.Outcome{Verdict: outbox.Done})}), outbox.ErrClosed)
	_, err = c.s.Stats(c.ctx)
	c.fails("stats", err, outbox.ErrClosed)
	_, err = c.s.Requeue(c.ctx, made.ID)
	c.fails("requeue", err, outbox.ErrClosed)
	_, err = c.s.Delete(c.ctx, made.ID)
	c.fails("delete", err, outbox.ErrClosed)
	n := 0
	for _, err := range c.s.Tasks(c.ctx, outbox.Filter{}) {
		c.fails("list", err, outbox.ErrClosed)
		n++
	}
	equal(c, "errors of a listing", n, 1)
}

func endedContext(c *trial) {
	dead := c.dead(task("dead"))[0]
	waits := c.create(task("waits"))[0]
	before := c.stats()
	ended, cancel := context.WithCancel(c.ctx)
	cancel()
	says := func(what string, err error) {
		c.Helper()
		c.fails(what, err, context.Canceled)
		if errors.Is(err, outbox.ErrOutcomeUnknown) {
			c.Errorf("%s: %v; but nothing was begun, so the outcome is known", what, err)
		}
	}
	says("create", c.s.Create(ended, []outbox.Task{task("x")}))
	got, err := c.s.Claim(ended, outbox.ClaimRequest{Max: 1, Lease: aWhile})
	says("claim", err)
	c.named("claim", got.Tasks, "")
	_, err = c.s.Requeue(ended, dead.ID)
	says("requeue", err)
	_, err = c.s.Delete(ended, waits.ID)
	says("delete", err)
	for _, err := range c.s.Tasks(ended, outbox.Filter{}) {
		says("list", err)
	}
	equal(c, "Stats after it", c.stats(), before)
	c.one("claim", "waits")
}

func transaction(c *trial) {
	if c.h.Tx == nil {
		ctx := outbox.WithTx(c.ctx, "a transaction of nobody's")
		c.fails("create", c.s.Create(ctx, []outbox.Task{task("a"), task("b")}), outbox.ErrTxUnsupported)
		equal(c, "Stats", c.stats(), outbox.Stats{})
		return
	}
	c.create(task("before", key("k")))
	tasks := []outbox.Task{task("a", lease(aWhile)), task("b", key("k"), unique("u")), task("c", delay(ages))}
	c.h.Tx(c.t, c.s, func(ctx context.Context) {
		c.ok("create", c.s.Create(ctx, tasks))
		for _, t := range tasks {
			equal(c, t.Name+" has an ID", t.ID.IsZero(), false)
			equal(c, "State of "+t.Name, t.State, outbox.Waiting)
		}
		c.named("list before the commit", c.list(outbox.Filter{}), "before")
		c.done(c.one("claim before the commit", "before"))
		c.none("claim before the commit")
	})
	c.named("list after the commit", c.list(outbox.Filter{}), "a b c")
	c.fails("create", c.s.Create(c.ctx, []outbox.Task{task("x", unique("u"))}), outbox.ErrDuplicate)
	c.reopen()
	for i, t := range c.list(outbox.Filter{}) {
		c.same("after a reopen", t, tasks[i])
	}
	c.namedAnyhow("claim after the commit", c.claim(many), "a b")
}

func notices(c *trial) {
	n, ok := c.s.(outbox.Notifier)
	if !ok {
		c.Skipf("the store is no outbox.Notifier")
	}
	var told atomic.Int64
	stop := n.Notify(func() { told.Add(1) })
	tells := func(what string, f func()) {
		c.Helper()
		before := told.Load()
		f()
		c.await("a notice after "+what, func() bool { return told.Load() > before })
	}
	tells("create", func() { c.create(task("a", key("k")), task("b", key("k")), task("c", key("k"))) })
	got := c.one("claim", "a")
	tells("Release", func() { c.release(0, got) })
	got = c.one("claim", "a")
	tells("Retry", func() { c.retry(0, got) })
	got = c.one("claim", "a")
	tells("Bury of a head", func() { c.bury(got) })
	dead := got
	got = c.one("claim", "b")
	tells("Done of a head", func() { c.done(got) })
	tells("requeue", func() {
		_, err := c.s.Requeue(c.ctx, dead.ID)
		c.ok("requeue", err)
	})
	stop()
	c.pass(2 * pause) // one may still be on its way
	before := told.Load()
	c.create(task("d"))
	c.pass(2 * time.Millisecond)
	equal(c, "notices after stop", told.Load()-before, 0)
	stop() // a second stop does nothing
}
