package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var expireRules = []rule{
	{39, "time-to-live", "A waiting task whose TTL has run out is never delivered: Claim drops it as expired. One in flight may still be delivered.", expires},
	{40, "an expired head", "A head that expires, due or not, lets the next of its key through, in the same Claim; NextIn tells of it.", expiredHead},
}

func expires(c *trial) {
	held, short := c.mortal("done", "back", "dead")
	c.create(task("short", ttl(short)), task("long", ttl(ages)), task("never"), task("none", ttl(-short)))
	c.pass(short)
	got := c.claim(many)
	c.namedAnyhow("claim", got, "long never none")
	before := c.stats()
	equal(c, "Expired", before.DroppedBy.Expired, 1)
	c.done(held[0])
	c.retry(0, held[1])
	c.bury(held[2])
	c.none("claim of what came back after it had expired")
	st := c.stats()
	equal(c, "Expired", st.DroppedBy.Expired, 2)
	equal(c, "Delivered", st.Delivered-before.Delivered, 1)
	equal(c, "Dead", st.Dead, 1)
	c.done(got...)

	c.create(task("short", ttl(short)), task("long", ttl(ages)))
	c.reopen()
	c.pass(short)
	c.named("claim after a reopen", c.claim(many), "long")
	equal(c, "Expired", c.stats().DroppedBy.Expired, 3)
}

func expiredHead(c *trial) {
	short := 20 * time.Millisecond
	c.create(task("soon", key("a"), ttl(short)), task("next", key("a")))
	c.pass(short)
	c.named("claim of a key whose head has expired", c.claim(many), "next")

	start := time.Now()
	c.create(task("late", key("b"), ttl(short), delay(ages)), task("next", key("b")))
	c.await("the late head expires", func() bool {
		got := c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile})
		if passed := time.Since(start); len(got.Tasks) == 0 {
			if got.NextIn > short {
				c.Errorf("NextIn = %v, but a head expires in %v at most", got.NextIn, short)
			}
			return false
		} else if passed < short {
			c.Errorf("the next was claimed after %v, its head expires after %v", passed, short)
		}
		c.named("claim", got.Tasks, "next")
		return true
	})
	equal(c, "Expired", c.stats().DroppedBy.Expired, 2)
}

// mortal makes tasks that expire soon, and are in flight already. It says when.
func (c *trial) mortal(names ...string) (tasks []outbox.Task, short time.Duration) {
	c.Helper()
	for short = 10 * time.Millisecond; short < patience; short *= 2 {
		tasks = nil
		for _, name := range names {
			tasks = append(tasks, task(name, ttl(short), lease(aWhile)))
		}
		var late []outbox.ID
		for _, t := range c.create(tasks...) {
			if t.State != outbox.InFlight {
				late = append(late, t.ID)
			}
		}
		if len(late) == 0 {
			return tasks, short
		}
		for _, t := range tasks { // accepting has taken longer than that: once more
			if t.State == outbox.InFlight {
				c.done(t)
			}
		}
		_, err := c.s.Delete(c.ctx, late...)
		c.ok("delete", err)
	}
	c.Fatalf("create does not claim tasks with a Lease")
	return nil, 0
}
