package storetest

import "github.com/goutbox/goutbox/outbox"

var requeueRules = []rule{
	{31, "Requeue", "Requeue makes dead tasks wait again, due at once, no attempt spent, their history kept, their time-to-live over; durable on return.", requeue},
	{32, "what Requeue passes over", "IDs of tasks that are not dead give ErrNotFound, a Unique key taken meanwhile ErrDuplicate; the others of the call are requeued and counted.", requeueSome},
}

func requeue(c *trial) {
	dead := c.dead(task("a"), task("c"))
	mortal, short := c.mortal("b")
	c.bury(mortal...)
	dead = append(dead, mortal...)
	c.pass(short)
	n, err := c.s.Requeue(c.ctx, dead[0].ID, dead[2].ID)
	c.ok("requeue", err)
	equal(c, "requeued", n, 2)
	c.reopen()
	st := c.stats()
	equal(c, "Requeued", st.Requeued, 2)
	equal(c, "Dead", st.Dead, 1)
	equal(c, "Pending", st.Pending, 2)
	got := c.claim(many)
	c.namedAnyhow("claim", got, "a b")
	for _, t := range got {
		equal(c, "Attempt of "+t.Name, t.Attempt, 1)
		equal(c, "Reason of "+t.Name, t.Reason, "")
		equal(c, "failures of "+t.Name, len(t.Failures), 1)
	}
	c.bury(got...)
	for _, t := range c.list(outbox.Filter{}) {
		if t.Name != "c" {
			equal(c, "Attempts of one that died twice", t.Attempts, 1)
			equal(c, "failures of one that died twice", len(t.Failures), 2)
		}
	}
	n, err = c.s.Requeue(c.ctx)
	c.ok("requeue of nothing", err)
	equal(c, "requeued", n, 0)
}

func requeueSome(c *trial) {
	dead := c.dead(task("a"), task("b", unique("u")), task("c"))
	gone := c.create(task("gone"))[0]
	c.done(c.one("claim", "gone"))
	flies := c.create(task("flies", unique("u")))[0]
	c.one("claim", "flies")
	waits := c.create(task("waits"))[0]

	n, err := c.s.Requeue(c.ctx, waits.ID, dead[0].ID, flies.ID, dead[1].ID, gone.ID, dead[2].ID, dead[2].ID)
	c.fails("requeue of some that are not dead", err, outbox.ErrNotFound)
	c.fails("requeue of one whose Unique key is taken", err, outbox.ErrDuplicate)
	equal(c, "requeued", n, 2)
	equal(c, "Requeued", c.stats().Requeued, 2)
	equal(c, "State of the one whose key is taken", c.find(dead[1].ID).State, outbox.Dead)
	c.namedAnyhow("claim", c.claim(many), "waits a c")
}
