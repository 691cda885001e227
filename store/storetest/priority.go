package storetest

import (
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var priorityRules = []rule{
	{52, "classes", "Claim takes turns between the classes as Turn says; a class that has nothing due gives its turn to the highest that has; within a class the oldest due time comes first.", classes},
	{53, "classes stay", "A task keeps its class through Retry, Release, Requeue and a reopen; no class starves then.", classesStay},
	{54, "counters of classes", "PendingByPriority counts what waits by class, without what is in flight.", classCounters},
}

// ofEach creates n tasks of each class, mixed, called "high 0" and so on.
func ofEach(c *trial, n int, with ...func(*outbox.Task)) {
	c.Helper()
	for i := range n {
		c.create(task(fmt.Sprint("low-", i), append(with, class(outbox.Low))...), task(fmt.Sprint("normal-", i), with...),
			task(fmt.Sprint("high-", i), append(with, class(outbox.High))...))
	}
}

// turns returns what n claimed tasks are, from the first of all on, if there are so many
// of each class.
func turns(n int, has map[outbox.Priority]int) (names string) {
	taken := map[outbox.Priority]int{}
	for i := range n {
		for _, p := range outbox.Turn(uint64(i)) {
			if taken[p] == has[p] {
				continue
			}
			if i > 0 {
				names += " "
			}
			names += fmt.Sprint(p, "-", taken[p])
			taken[p]++
			break
		}
	}
	return names
}

func classes(c *trial) {
	ofEach(c, 20)
	var got []outbox.Task
	for _, most := range []int{1, 6, 3, 30, many} { // the turns go on from call to call
		got = append(got, c.claim(most)...)
	}
	c.named("claim", got, turns(60, map[outbox.Priority]int{outbox.High: 20, outbox.Normal: 20, outbox.Low: 20}))
	c.create(task("low", class(outbox.Low)), task("late", class(outbox.High), delay(ages)))
	c.one("a high one that is not due gives way", "low")
}

func classesStay(c *trial) {
	dead := c.dead(task("low-0", class(outbox.Low)))
	_, err := c.s.Requeue(c.ctx, dead[0].ID)
	c.ok("requeue", err)
	ofEach(c, 20)
	got := c.claim(40)
	c.release(0, got[:20]...)
	c.retry(0, got[20:]...)
	c.reopen()
	count := map[outbox.Priority]int{}
	for _, t := range c.claim(16) {
		count[t.Priority]++
	}
	if count[outbox.High] != 12 || count[outbox.Normal] != 3 || count[outbox.Low] != 1 {
		c.Errorf("16 claims: %v, want 12 high, 3 normal, 1 low", count)
	}
	for _, t := range c.list(outbox.Filter{}) {
		if want := t.Name[:1]; t.Priority.String()[:1] != want {
			c.Errorf("%s has class %s", t.Name, t.Priority)
		}
	}
}

func classCounters(c *trial) {
	check := func(what string, high, normal, low uint64) {
		c.Helper()
		equal(c, "PendingByPriority "+what, c.stats().PendingByPriority, outbox.ByPriority{High: high, Normal: normal, Low: low})
	}
	check("of nothing", 0, 0, 0)
	c.create(task("h", class(outbox.High)), task("n1"), task("n2"), task("l1", class(outbox.Low)), task("l2", class(outbox.Low)), task("l3", class(outbox.Low)))
	check("when created", 1, 2, 3)
	got := c.claim(many)
	check("while all fly", 0, 0, 0)
	c.release(0, got...)
	check("when released", 1, 2, 3)
	for _, t := range c.claim(many) {
		switch t.Name {
		case "n1":
			c.done(t)
		case "l1":
			c.bury(t)
		default:
			c.retry(0, t)
		}
	}
	check("when one is delivered and one is dead", 1, 1, 2)
	c.create(task("lo1", class(outbox.Low), latest("x")), task("lo2", class(outbox.High), latest("x")), task("gone", ttl(time.Millisecond)))
	c.pass(time.Millisecond)
	c.release(0, c.claim(many)...)
	check("when one was replaced and one has expired", 2, 1, 2)
	if c.reopen() {
		check("after a reopen", 2, 1, 2)
	}
}
