package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var uniqueRules = []rule{
	{34, "Unique", "At most one task with a Unique key waits or is in flight; another one is refused with ErrDuplicate.", uniqueHeld},
	{35, "Unique is freed", "A Unique key is free again as soon as its task is delivered, dead or dropped.", uniqueFreed},
}

func uniqueHeld(c *trial) {
	c.create(task("a", unique("u")), task("late", unique("w"), delay(ages)))
	taken := func(when string) {
		c.Helper()
		for _, k := range []string{"u", "w"} {
			c.fails("a second task with the key while the first "+when,
				c.s.Create(c.ctx, []outbox.Task{task("x", unique(k))}), outbox.ErrDuplicate)
		}
	}
	taken("waits")
	c.reopen()
	taken("waits, after a reopen")
	got := c.one("claim", "a")
	taken("is in flight")
	c.retry(0, got)
	taken("waits for its retry")
	c.reopen()
	taken("waits for its retry, after a reopen")
	c.release(ages, c.one("claim", "a"))
	taken("is released")
	c.create(task("no key"), task("no key"), task("prefix", unique("u\x00")))
	equal(c, "Accepted", c.stats().Accepted, 5)
}

func uniqueFreed(c *trial) {
	u := unique("u")
	c.create(task("delivered", u))
	c.done(c.one("claim", "delivered"))

	c.create(task("dead", u))
	c.bury(c.one("claim", "dead"))

	made := c.create(task("deleted", u))
	_, err := c.s.Delete(c.ctx, made[0].ID)
	c.ok("delete", err)

	c.create(task("expired", u, ttl(5*time.Millisecond)))
	c.pass(5 * time.Millisecond)
	c.none("claim of what has expired")

	c.reopen()
	c.create(task("delivered again", u))
	c.done(c.one("claim", "delivered again"))
	c.reopen()
	c.create(task("last", u))
	c.reopen()
	c.fails("one more", c.s.Create(c.ctx, []outbox.Task{task("x", u)}), outbox.ErrDuplicate)
	c.namedAnyhow("list", c.list(outbox.Filter{}), "dead last")
}
