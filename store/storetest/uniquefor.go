package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var uniqueForRules = []rule{
	{100, "UniqueFor", "A Unique key stays taken for UniqueFor after its task was delivered, and is free from then on.", uniqueForHeld},
	{101, "UniqueFor across a reopen", "A Unique key that is taken after the delivery of its task stays so across a reopen.", uniqueForReopened},
	{102, "UniqueFor is for the delivered", "A task that dies or is dropped frees its Unique key at once, whatever its UniqueFor.", uniqueForFreed},
	{103, "Requeue against UniqueFor", "A dead letter whose Unique key is taken after the delivery of another stays dead, and is reported as ErrDuplicate.", uniqueForRequeue},
}

func uniqueFor(k string, d time.Duration) func(*outbox.Task) {
	return func(t *outbox.Task) { t.Unique, t.UniqueFor = k, d }
}

// refused checks that the Unique key is taken.
func (c *trial) refused(what, k string) {
	c.Helper()
	c.fails(what, c.s.Create(c.ctx, []outbox.Task{task("x"), task("y", unique(k))}), outbox.ErrDuplicate)
}

func uniqueForHeld(c *trial) {
	got := c.create(task("held", uniqueFor("u", ages)))
	c.refused("while it waits", "u")
	equal(c, "UniqueFor as it is listed", c.find(got[0].ID).UniqueFor, ages)
	c.done(c.one("claim", "held"))
	c.refused("after the delivery", "u")
	c.create(task("other", uniqueFor("uu", ages)), task("negative", uniqueFor("n", -ages)))
	for _, t := range c.claim(many) {
		c.retry(0, t)
	}
	for _, t := range c.claim(many) {
		c.done(t)
	}
	c.refused("after the delivery at the second attempt", "uu")
	c.create(task("negative", uniqueFor("n", 0)))
	c.done(c.one("claim", "negative"))

	short := 20 * time.Millisecond
	c.create(task("short", uniqueFor("s", short)))
	got = c.claim(many)
	start := time.Now()
	c.done(got...)
	c.await("the time has passed", func() bool {
		err := c.s.Create(c.ctx, []outbox.Task{task("again", uniqueFor("s", ages))})
		if passed := time.Since(start); err == nil && passed < short {
			c.Errorf("the key was taken for %v, and free after %v", short, passed)
		}
		if err != nil {
			c.fails("while the key is taken", err, outbox.ErrDuplicate)
		}
		return err == nil
	})
	c.refused("while the next one waits", "s")
	c.done(c.one("claim", "again"))
	c.refused("after the delivery of the next one", "s")
	c.refused("the first is still taken", "u")
}

func uniqueForReopened(c *trial) {
	c.needReopen()
	c.create(task("a", uniqueFor("u", ages)), task("b", uniqueFor("v", ages)))
	got := c.claim(many)
	c.done(got[0])
	c.refused("before a reopen", got[0].Unique)
	c.reopen()
	c.refused("after a reopen", got[0].Unique)
	got = c.claim(many)
	c.done(got...)
	c.reopen()
	c.reopen()
	for _, k := range []string{"u", "v"} {
		c.refused("after three", k)
	}
	c.create(task("w", uniqueFor("w", time.Millisecond)))
	c.done(c.one("claim", "w"))
	c.reopen()
	c.await("the time has passed", func() bool { return c.s.Create(c.ctx, []outbox.Task{task("w", unique("w"))}) == nil })
}

func uniqueForFreed(c *trial) {
	u := uniqueFor("u", ages)
	c.create(task("dead", u))
	c.bury(c.one("claim", "dead"))
	made := c.create(task("deleted", u))
	_, err := c.s.Delete(c.ctx, made[0].ID)
	c.ok("delete", err)
	c.create(task("expired", u, ttl(5*time.Millisecond)))
	c.pass(5 * time.Millisecond)
	c.none("claim of what has expired")
	c.create(task("last", u))
	c.reopen()
	c.done(c.one("claim", "last"))
	c.refused("after the delivery", "u")
}

func uniqueForRequeue(c *trial) {
	old := c.dead(task("old", unique("u")), task("free", unique("v")))
	c.create(task("new", uniqueFor("u", ages)))
	c.done(c.one("claim", "new"))
	for range 2 {
		n, err := c.s.Requeue(c.ctx, old[0].ID)
		c.fails("requeue", err, outbox.ErrDuplicate)
		equal(c, "requeued", n, 0)
		c.reopen()
	}
	n, err := c.s.Requeue(c.ctx, old[1].ID)
	c.ok("requeue of one whose key is free", err)
	equal(c, "requeued", n, 1)
	c.done(c.one("claim", "free"))

	short := c.dead(task("short", unique("s")))
	c.create(task("new", uniqueFor("s", 10*time.Millisecond)))
	c.done(c.one("claim", "new"))
	c.await("the time has passed", func() bool {
		n, _ := c.s.Requeue(c.ctx, short[0].ID)
		return n == 1
	})
}
