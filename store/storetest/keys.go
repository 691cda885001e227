package storetest

import (
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var keyRules = []rule{
	{18, "heads of keys", "P4: of the tasks with one Key only the oldest that waits or is in flight can be claimed; other keys, and tasks without one, never wait for it.", headsOfKeys},
	{19, "a head that waits", "P4: a head that is not due, from the start or after Retry or Release, blocks its key and no other.", waitingHead},
	{20, "a head that is gone", "A head that is delivered, dead or dropped frees its key at once.", goneHead},
	{21, "keys across a reopen", "P4: the order of a key survives a reopen, whatever became of its head.", keysReopened},
	{22, "keys are exact", "A Key is its bytes, all of them: prefixes, zero bytes and bytes that are no UTF-8 make other keys.", exactKeys},
	{23, "one at a time", "P4: of one Key at most one task is in flight, also when an older one is requeued meanwhile; that one goes next.", oneAtATime},
}

func headsOfKeys(c *trial) {
	c.create(task("a1", key("a")), task("a2", key("a")), task("b1", key("b")), task("n1"))
	c.create(task("a3", key("a")), task("b2", key("b")), task("n2"))
	got := c.claim(many)
	c.namedAnyhow("first claim", got, "a1 b1 n1 n2")
	c.none("claim while the heads are in flight")
	for _, t := range got {
		switch t.Name {
		case "a1":
			c.done(t)
			t = c.one("a1 is done", "a2")
			c.create(task("a4", key("a")), task("n3"))
			c.one("a2 is in flight", "n3")
			c.done(t)
			c.one("a2 is done", "a3")
		case "b1":
			c.retry(0, t)
			t = c.one("b1 is retried", "b1")
			c.done(t)
			c.one("b1 is done", "b2")
		}
	}
}

func waitingHead(c *trial) {
	for _, how := range []string{"delayed", "retried", "released"} {
		// hold creates a head that is not due before d, and one behind it.
		hold := func(k string, d time.Duration) (start time.Time) {
			start = time.Now()
			if how == "delayed" {
				c.create(task("head", key(k), delay(d)), task("next", key(k)))
				return start
			}
			c.create(task("head", key(k)), task("next", key(k)))
			got := c.one("claim", "head")
			start = time.Now()
			if how == "retried" {
				c.retry(d, got)
			} else {
				c.release(d, got)
			}
			return start
		}
		hold(how, ages)
		c.create(task("other", key("other than "+how)))
		c.done(c.one("claim beside a key whose head is "+how, "other"))
		c.none("claim behind a head that is " + how)

		wait := 20 * time.Millisecond
		start := hold("soon "+how, wait)
		got := c.sole("the head is due, "+how, "head")
		if passed := time.Since(start); passed < wait {
			c.Errorf("%s for %v, claimed after %v", how, wait, passed)
		}
		c.none("claim while the head is in flight")
		c.done(got)
		c.done(c.one("the head is done", "next"))
	}
}

func goneHead(c *trial) {
	c.create(task("1", key("k")), task("2", key("k")), task("3", key("k")))
	made := c.create(task("4", key("k"), delay(ages)), task("5", key("k")))
	c.done(c.one("head", "1"))
	c.bury(c.one("the head was delivered", "2"))
	c.done(c.one("the head has died", "3"))
	c.none("the head is due in an hour")
	n, err := c.s.Delete(c.ctx, made[0].ID)
	c.ok("delete of the head", err)
	equal(c, "deleted", n, 1)
	c.one("the head was deleted", "5")
}

func keysReopened(c *trial) {
	c.needReopen()
	for _, k := range []string{"a", "b", "c", "d"} {
		c.create(task(k+"1", key(k)), task(k+"2", key(k)))
		c.create(task(k+"3", key(k)))
	}
	got := c.claim(many)
	c.namedAnyhow("claim", got, "a1 b1 c1 d1")
	for _, t := range got {
		switch t.Name {
		case "a1":
			c.done(t)
		case "b1":
			c.retry(0, t)
		case "c1":
			c.retry(ages, t)
		} // d1 stays in flight
	}
	c.reopen()
	c.create(task("b4", key("b")))
	got = c.claim(many)
	c.namedAnyhow("claim after a reopen", got, "a2 b1 d1")
	c.done(got...)
	c.reopen()
	got = c.claim(many)
	c.namedAnyhow("claim after another reopen", got, "a3 b2 d2")
	c.done(got...)
	got = c.claim(many)
	c.namedAnyhow("claim", got, "b3 d3")
	c.done(got...)
	c.done(c.one("claim", "b4"))
	c.reopen()
	c.none("c1 is due in an hour")
	c.namedAnyhow("list", c.list(outbox.Filter{}), "c1 c2 c3")
}

func exactKeys(c *trial) {
	keys := []string{"a", "ab", "a\x00", "a\x00b", "\x00", "\xff", "\xff\xff", "\xff\x00", "A", "é", "e\u0301", " ", "a "}
	var first, second []outbox.Task
	for _, k := range keys {
		first = append(first, task("first", key(k)))
		second = append(second, task("second", key(k)))
	}
	c.create(first...)
	c.create(second...)
	c.reopen()
	for _, k := range keys {
		var got []string
		for _, t := range c.list(outbox.Filter{Key: k}) {
			got = append(got, t.Name+" "+t.Key)
		}
		if want := []string{"first " + k, "second " + k}; !slices.Equal(got, want) {
			c.Errorf("list of key %q: got %q, want %q", k, got, want)
		}
	}
	for _, name := range []string{"first", "second"} {
		var got []string
		tasks := c.claim(many)
		for _, t := range tasks {
			equal(c, "the turn of key "+t.Key, t.Name, name)
			got = append(got, t.Key)
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(keys)); !slices.Equal(got, want) {
			c.Errorf("heads: got keys %q, want %q", got, want)
		}
		c.done(tasks...)
	}
}

func oneAtATime(c *trial) {
	old := c.dead(task("old", key("k")))[0]
	c.create(task("1", key("k")), task("2", key("k")))
	got := c.one("claim", "1")
	n, err := c.s.Requeue(c.ctx, old.ID)
	c.ok("requeue", err)
	equal(c, "requeued", n, 1)
	c.none("claim while a younger one of the key is in flight")
	c.done(got)
	got = c.one("the oldest of the key goes next", "old")
	c.none("claim while it is in flight")
	c.done(got)
	c.one("then the rest", "2")
}
