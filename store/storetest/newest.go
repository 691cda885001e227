package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var newestRules = []rule{
	{57, "Newest", "With Newest, Claim takes the latest due time first, and the newest ID first among equals; what is not due waits, and a claim without it begins at the other end.", newest},
	{58, "Newest and keys", "P4: with Newest too, of one Key only the head is claimed.", newestKeys},
	{59, "Newest and classes", "Newest is within a class: the classes take turns as ever.", newestClasses},
}

func (c *trial) newest(most int) []outbox.Task {
	c.Helper()
	return c.claimed(outbox.ClaimRequest{Max: most, Lease: aWhile, Newest: true}).Tasks
}

func newest(c *trial) {
	c.create(task("a1"), task("a2"))
	c.create(task("b1"), task("b2"))
	const soon = 300 * time.Millisecond // long enough for a claim on a busy machine
	c.create(task("late", delay(ages)), task("d", delay(soon)))
	c.named("the newest", c.newest(1), "b2")
	c.pass(soon)
	c.named("one has become due", c.newest(2), "d b1")
	c.create(task("e"))
	got := c.newest(1)
	c.named("one has come", got, "e")
	c.named("the oldest", c.claim(1), "a1")
	c.release(0, got...)
	c.named("the rest", c.newest(many), "e a2")
	if c.reopen() {
		c.named("after a reopen", c.newest(3), "e d b2")
		c.named("the oldest after a reopen", c.claim(1), "a1")
		c.named("the rest after a reopen", c.newest(many), "b1 a2")
	}
}

func newestKeys(c *trial) {
	c.create(task("1", key("k")), task("2", key("k")))
	c.create(task("x"), task("3", key("k")))
	got := c.newest(many)
	c.named("claim", got, "x 1")
	c.none("the head is in flight")
	c.done(got...)
	c.reopen()
	c.done(c.newest(1)...)
	c.named("the last of the key", c.newest(many), "3")
}

func newestClasses(c *trial) {
	ofEach(c, 4)
	want := "high-3 high-2 high-1 normal-3 high-0 normal-2 normal-1 normal-0 low-3 low-2 low-1 low-0"
	c.named("claim", append(c.newest(5), c.newest(many)...), want)
}
