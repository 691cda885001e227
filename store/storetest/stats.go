package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var statsRules = []rule{
	{45, "counters", "Stats counts what waits without what is in flight, and all that ever happened; OldestPending is when the oldest that waits was accepted.", counters},
}

func counters(c *trial) {
	equal(c, "Stats of a fresh store", c.stats(), outbox.Stats{})
	dead := c.dead(task("dead"), task("dead"), task("dead"))
	c.create(task("flies"))
	c.one("claim", "flies")
	oldest := c.create(task("late", delay(ages)))[0]
	c.pass(0)
	made := c.create(task("done", lease(aWhile)), task("deleted", delay(ages)),
		task("replaced", latest("l")), task("newer", latest("l")), task("expires", ttl(time.Millisecond)))
	c.pass(time.Millisecond)
	c.done(made[0])
	_, err := c.s.Delete(c.ctx, made[1].ID, dead[0].ID)
	c.ok("delete", err)
	_, err = c.s.Requeue(c.ctx, dead[1].ID)
	c.ok("requeue", err)
	c.release(0, c.claim(many)...)
	want := outbox.Stats{
		Accepted: 10, Delivered: 1, Pending: 3, InFlight: 1, Dead: 1, Requeued: 1, Dropped: 4,
		PendingByPriority: outbox.ByPriority{Normal: 3},
		DroppedBy:         outbox.Dropped{Expired: 1, Coalesced: 1, Deleted: 2},
		OldestPending:     dead[1].CreatedAt.Round(0).UTC(),
	}
	equal(c, "Stats", c.stats(), want)
	_, err = c.s.Delete(c.ctx, dead[1].ID)
	c.ok("delete", err)
	if got := c.stats().OldestPending; !got.Equal(oldest.CreatedAt) {
		c.Errorf("OldestPending: got %v, want %v", got, oldest.CreatedAt)
	}
	if c.reopen() {
		want.OldestPending, want.InFlight, want.Pending = c.stats().OldestPending, 0, 3
		want.Dropped, want.DroppedBy.Deleted = 5, 3
		equal(c, "Stats after a reopen", c.stats(), want)
		if got, first := c.stats().OldestPending, c.list(outbox.Filter{States: []outbox.State{outbox.Waiting}})[0]; !got.Equal(first.CreatedAt) {
			c.Errorf("OldestPending after a reopen: got %v, want %v of %s", got, first.CreatedAt, first.Name)
		}
	}
}
