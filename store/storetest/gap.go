package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var gapRules = []rule{
	{110, "a gap", "A claim with Gaps tells of what has expired, with an event that comes before what survived; one without does not.", gap},
	{111, "each drop is told once", "What was dropped stays untold until a claim asks, and is told once (P5): one gap for a reason at a time, and what is dropped while it waits or is in flight is for the next.", gapOnce},
	{112, "gaps across a reopen", "What is untold, and which gap waits, survives a restart.", gapReopened},
	{113, "a gap must match", "A gap is made by a claim whose Match is for it, and by no other.", gapMatch},
	{114, "life of a gap", "A gap is buried, requeued and deleted like any other event; a dead one is in nobody's way, a requeued one is the one that waits.", gapLife},
	{115, "class of a gap", "A gap has the highest class of what it tells of, whatever came first.", gapClass},
}

// asked claims all there is, and asks for gaps.
func (c *trial) asked() []outbox.Task {
	c.Helper()
	return c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile, Gaps: true}).Tasks
}

// expire creates tasks and waits until they have expired. The next claim drops them.
func (c *trial) expire(tasks ...outbox.Task) []outbox.Task {
	c.Helper()
	for i := range tasks {
		tasks[i].TTL = time.Millisecond
	}
	made := c.create(tasks...)
	c.pass(time.Millisecond)
	return made
}

// told reads the one gap among tasks, which must be a whole event.
func (c *trial) told(what string, tasks ...outbox.Task) (g outbox.Gap) {
	c.Helper()
	if len(tasks) != 1 || tasks[0].Name != outbox.GapName {
		c.Fatalf("%s: got [%s], want a gap", what, names(tasks))
	}
	t := tasks[0]
	c.ok(what, t.Decode(&g))
	equal(c, what+": content type", t.ContentType, "application/json")
	equal(c, what+": that it may be tried at all", t.MaxAttempts > 3, true)
	if t.ID.IsZero() || t.ID.Compare(g.Last) <= 0 || t.CreatedAt.IsZero() {
		c.Errorf("%s: ID %s, accepted at %v; want an ID above %s", what, t.ID, t.CreatedAt, g.Last)
	}
	return g
}

// of checks what a gap tells.
func (c *trial) of(what string, g outbox.Gap, dropped ...outbox.Task) {
	c.Helper()
	first, last := dropped[0], dropped[len(dropped)-1]
	equal(c, what+": Reason", g.Reason, outbox.ReasonExpired)
	equal(c, what+": Count", g.Count, uint64(len(dropped)))
	equal(c, what+": First", g.First, first.ID)
	equal(c, what+": Last", g.Last, last.ID)
	equal(c, what+": From", g.From.Equal(first.CreatedAt), true)
	equal(c, what+": To", g.To.Equal(last.CreatedAt), true)
}

func gap(c *trial) {
	c.create(task("older"))
	c.pass(0)
	dropped := c.expire(task("x"), task("x"), task("x"))
	c.create(task("newer"))
	before := c.stats()
	c.named("claim without Gaps", c.claim(1), "older")
	got := c.asked()
	c.named("claim with Gaps", got, outbox.GapName+" newer")
	c.of("the gap", c.told("the gap", got[0]), dropped...)
	st := c.stats()
	equal(c, "Accepted", st.Accepted-before.Accepted, 1)
	equal(c, "Expired", st.DroppedBy.Expired, 3)
	listed := c.find(got[0].ID)
	c.same("the gap as listed", listed, got[0])

	c.done(got...)
	c.settled()
	dropped = c.expire(task("x"), task("x"))
	made := c.create(task("survives"), task("survives too"))
	c.named("claim without Gaps", c.claim(many), "survives survives too")
	got = c.asked()
	c.of("the next gap", c.told("the next gap", got...), dropped...)
	equal(c, "that the IDs of what was made later are lower", got[0].ID.Compare(made[1].ID) > 0, true)
}

func gapOnce(c *trial) {
	var all []outbox.Task
	drop := func(n int) {
		c.Helper()
		for range n {
			all = append(all, c.expire(task("x"))...)
		}
		c.none("claim of what has expired")
	}
	drop(2)
	drop(1)
	first := c.asked()
	c.of("all of before", c.told("the first gap", first...), all...)
	all = nil
	drop(2)
	c.named("while the gap is in flight", c.asked(), "")
	c.retry(ages, first...)
	c.named("while the gap waits", c.asked(), "")
	drop(1)
	_, err := c.s.Delete(c.ctx, first[0].ID)
	c.ok("delete", err)
	second := c.asked()
	c.of("what came meanwhile", c.told("the second gap", second...), all...)
	c.done(second...)
	c.settled()
	c.named("when all is told", c.asked(), "")
	equal(c, "Expired", c.stats().DroppedBy.Expired, 6)
}

func gapReopened(c *trial) {
	c.needReopen()
	dropped := c.expire(task("x"), task("x"))
	c.none("claim of what has expired")
	c.reopen()
	dropped = append(dropped, c.expire(task("x"))...)
	got := c.asked()
	c.of("a gap after a reopen", c.told("a gap after a reopen", got...), dropped...)
	dropped = c.expire(task("x"))
	c.none("claim of what has expired")
	c.reopen()
	again := c.asked()
	c.same("the gap that was in flight", c.find(again[0].ID), got[0])
	c.told("the only one", again...)
	c.reopen()
	again = c.asked()
	c.told("once more", again...)
	c.done(again...)
	c.settled()
	c.reopen()
	c.of("the next gap", c.told("the next gap", c.asked()...), dropped...)
}

func gapMatch(c *trial) {
	dropped := c.expire(task("x"))
	c.create(task("a"), task("b"))
	claim := func(gaps bool) []outbox.Task {
		c.Helper()
		return c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile, Gaps: true, Match: func(name string) bool {
			return gaps || name != outbox.GapName
		}}).Tasks
	}
	c.named("a claim that has something against gaps", claim(false), "a b")
	equal(c, "Accepted", c.stats().Accepted, 3)
	c.of("the gap", c.told("a claim that has not", claim(true)...), dropped...)
}

func gapLife(c *trial) {
	c.expire(task("x"))
	got := c.asked()
	c.told("a gap", got...)
	c.bury(got...)
	equal(c, "Dead", c.stats().Dead, 1)
	c.settled()
	dropped := c.expire(task("x"))
	next := c.asked()
	c.of("a gap beside a dead one", c.told("a gap beside a dead one", next...), dropped...)
	c.bury(next...)
	n, err := c.s.Requeue(c.ctx, next[0].ID)
	c.ok("requeue", err)
	equal(c, "requeued", n, 1)
	dropped = c.expire(task("x"))
	again := c.claim(many)
	c.named("claim without Gaps", again, outbox.GapName)
	c.named("while the requeued one is in flight", c.asked(), "")
	c.done(again...)
	c.settled()
	n, err = c.s.Delete(c.ctx, got[0].ID)
	c.ok("delete", err)
	equal(c, "deleted", n, 1)
	c.of("the last gap", c.told("the last gap", c.asked()...), dropped...)
}

func gapClass(c *trial) {
	of := func(p outbox.Priority) func(*outbox.Task) { return func(t *outbox.Task) { t.Priority = p } }
	for _, look := range []struct {
		want    outbox.Priority
		dropped []outbox.Priority
	}{
		{outbox.Low, []outbox.Priority{outbox.Low, outbox.Low}},
		{outbox.Normal, []outbox.Priority{outbox.Low, outbox.Normal}},
		{outbox.High, []outbox.Priority{outbox.Normal, outbox.High, outbox.Low}},
	} {
		var tasks []outbox.Task
		for _, p := range look.dropped {
			tasks = append(tasks, task("x", of(p)))
		}
		c.expire(tasks...)
		got := c.asked()
		c.told("a gap", got...)
		equal(c, "class of a gap", got[0].Priority, look.want)
		c.done(got...)
		c.settled()
	}
}
