package storetest

import "github.com/goutbox/goutbox/outbox"

var deleteRules = []rule{
	{33, "Delete", "Delete drops waiting and dead tasks, durable on return; one in flight gives ErrInFlight, an unknown one ErrNotFound, and the others of the call are dropped and counted.", deleteTasks},
}

func deleteTasks(c *trial) {
	dead := c.dead(task("dead", unique("u")))[0]
	made := c.create(task("flies"), task("waits", key("k")), task("behind", key("k")), task("late", delay(ages)))
	flies := c.one("claim", "flies")
	n, err := c.s.Delete(c.ctx, dead.ID, flies.ID, made[1].ID, made[1].ID, made[3].ID)
	c.fails("delete of one in flight", err, outbox.ErrInFlight)
	c.fails("delete of the same one twice", err, outbox.ErrNotFound)
	equal(c, "deleted", n, 3)
	c.named("list", c.list(outbox.Filter{}), "flies behind")
	c.reopen()
	st := c.stats()
	equal(c, "Deleted", st.DroppedBy.Deleted, 3)
	equal(c, "Dead", st.Dead, 0)
	c.namedAnyhow("list", c.list(outbox.Filter{}), "flies behind")
	n, err = c.s.Requeue(c.ctx, dead.ID)
	c.fails("requeue of a deleted one", err, outbox.ErrNotFound)
	equal(c, "requeued", n, 0)
	n, err = c.s.Delete(c.ctx)
	c.ok("delete of nothing", err)
	equal(c, "deleted", n, 0)
}
