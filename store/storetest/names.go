package storetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var nameRules = []rule{
	{127, "names of notices", "A NameNotifier tells the names of what has become claimable, the next of a key among them, until stopped.", namedNotices},
	{128, "names of notices of drops", "When something was dropped, or a head has died of its parked key, a NameNotifier tells the name of the next of the key, and of a gap to tell.", namedDrops},
	{129, "nothing untold", "Whatever was done to a NameNotifier, a claim that matches one name finds nothing that it was neither told of since the last one nor of when to look.", nothingUntold},
}

// ear hears what a store tells of some names.
type ear struct {
	mu    sync.Mutex // guards the rest
	told  map[string]bool
	calls int
}

// listens has an ear hear the store, or skips the rule.
func (c *trial) listens(names ...string) (e *ear, stop func()) {
	c.Helper()
	n, ok := c.s.(outbox.NameNotifier)
	if !ok {
		c.Skipf("the store is no outbox.NameNotifier")
	}
	e = &ear{told: map[string]bool{}}
	for _, name := range names {
		e.told[name] = false
	}
	return e, n.NotifyNames(e.hear)
}

func (e *ear) hear(names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	for name := range e.told {
		e.told[name] = e.told[name] || len(names) == 0 || slices.Contains(names, name)
	}
}

// heard reports whether it was told of a name since that was last taken.
func (e *ear) heard(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.told[name]
}

// take is heard, and forgets.
func (e *ear) take(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.told[name]
	e.told[name] = false
	return was
}

// takeAll forgets all that it was told.
func (e *ear) takeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.told {
		e.told[name] = false
	}
}

// count returns how often it was told anything.
func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// noticed looks for the notices of what is done to a store.
type noticed struct {
	*trial
	ear *ear
}

// tells checks that a name is told after f, to one who has looked in vain before.
func (n *noticed) tells(what, name string, f func()) {
	n.Helper()
	n.claimedOf("nobody")
	n.ear.takeAll()
	f()
	n.await("a notice of "+name+" after "+what, func() bool { return n.ear.heard(name) })
}

func namedNotices(c *trial) {
	e, stop := c.listens("a", "b", "c", "new")
	n := noticed{c, e}
	defer stop()
	n.tells("create", "a", func() { c.create(task("a", key("k")), task("b", key("k"))) })
	c.create(task("c", key("k")))
	n.tells("create of a batch", "new", func() { c.create(task("x"), task("new")) })
	got := c.first("a")
	n.tells("Release", "a", func() { c.release(0, got) })
	got = c.first("a")
	n.tells("Retry", "a", func() { c.retry(0, got) })
	got = c.first("a")
	n.tells("Bury of the head before it", "b", func() { c.bury(got) })
	dead := got
	got = c.first("b")
	n.tells("Done of the head before it", "c", func() { c.done(got) })
	n.tells("requeue", "a", func() {
		_, err := c.s.Requeue(c.ctx, dead.ID)
		c.ok("requeue", err)
	})
	n.tells("delete of the head before it", "c", func() {
		_, err := c.s.Delete(c.ctx, dead.ID)
		c.ok("delete", err)
	})
	if c.h.Tx != nil {
		n.tells("a commit", "b", func() { c.inTx(task("x"), task("b")) })
	}
	stop()
	c.pass(2 * pause)
	before := e.count()
	c.create(task("a"))
	c.pass(2 * time.Millisecond)
	equal(c, "notices after stop", e.count()-before, 0)
	stop() // a second stop does nothing
}

func namedDrops(c *trial) {
	e, stop := c.listens("a", "b", outbox.GapName)
	n := noticed{c, e}
	defer stop()
	c.create(task("old", key("l"), latest("l"), delay(ages)), task("b", key("l")))
	n.tells("the head before it was replaced", "b", func() { c.create(task("new", latest("l"))) })
	c.done(c.first("b"))

	c.create(whole("parks", "p"), task("a", key("p")), task("b", key("p")))
	c.bury(c.first("parks"))
	n.tells("the head before it has died of its parked key", "b", func() { c.claimedOf("a") })

	expire := func() {
		c.expire(task("mortal"))
		c.claimedOf("mortal")
	}
	n.tells("the head before it has expired", "b", func() {
		c.create(task("first", key("m")), task("mortal", key("m"), ttl(time.Millisecond)), task("b", key("m")))
		c.done(c.first("first"))
		c.pass(time.Millisecond)
		n.ear.takeAll()
		c.claimedOf("mortal")
	})
	c.done(c.first(outbox.GapName))
	n.tells("a drop", outbox.GapName, func() { expire() })
	told := c.first(outbox.GapName)
	expire()
	n.tells("the end of the gap before it", outbox.GapName, func() { c.done(told) })

	if c.h.Tx == nil {
		return
	}
	c.create(task("a", key("t"), latest("t"), delay(ages)), task("b", key("t")))
	n.tells("a commit that replaces the head before it", "b", func() {
		c.inTx(task("x", latest("t")))
		c.await("a notice of what is to be dropped", func() bool { return e.heard("a") || e.heard("b") })
		c.claimedOf("a")
	})
}

// claimedOf claims what has one name.
func (c *trial) claimedOf(name string) outbox.Claimed {
	c.Helper()
	return c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile, Gaps: true, Match: func(other string) bool { return other == name }})
}

// first claims what has one name, and there is one.
func (c *trial) first(name string) outbox.Task {
	c.Helper()
	got := c.claimedOf(name).Tasks
	c.named("claim of "+name, got, name)
	return got[0]
}

// inTx creates tasks in a transaction that commits.
func (c *trial) inTx(tasks ...outbox.Task) {
	c.Helper()
	c.h.Tx(c.t, c.s, func(ctx context.Context) { c.ok("create in a transaction", c.s.Create(ctx, tasks)) })
}
