package storetest

import (
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var createRules = []rule{
	{2, "durable on return", "P1: what Create has accepted is there after a reopen, unchanged.", durable},
	{3, "all or none", "Create accepts all tasks of a call or none, and what it refuses reserves nothing.", allOrNone},
	{4, "rising IDs", "P4: IDs rise within a call, from call to call and across a reopen.", risingIDs},
	{5, "preset IDs", "An ID that is not zero is kept, refused with ErrDuplicate if the store holds a task with it, and passed by all IDs that the store hands out later.", presetIDs},
	{116, "the last IDs", "An ID whose time is after MaxIDTime is refused with ErrInvalid, and reserves nothing; behind the last one of that time IDs rise on, also across a reopen.", lastIDs},
	{8, "delay", "A task is not due before its Delay has passed since it was accepted, however long that is.", delays},
	{9, "claimed when created", "A task with a Lease is claimed in the same step if it is due and the head of its key; otherwise it waits like any other.", claimedWhenCreated},
}

func durable(c *trial) {
	c.needReopen()
	rich := task("b", key("k"), unique("u"), latest("l"), ttl(ages))
	rich.Headers = map[string]string{"trace": "abc"}
	rich.Attempts, rich.Failures = 1, []outbox.Failure{{At: time.Now(), Attempt: 1, Error: "no"}}
	want := c.create(task("a"), rich, task("c", delay(ages)))
	want = append(want, c.create(task("d", key("k")))...)
	for range 2 { // the second reopen reads what the first has made of it
		c.reopen()
		got := c.list(outbox.Filter{})
		c.named("list after a reopen", got, "a b c d")
		for i := range got {
			c.same("after a reopen", got[i], want[i])
			equal(c, "State after a reopen", got[i].State, outbox.Waiting)
		}
	}
	c.namedAnyhow("claim after a reopen", c.claim(many), "a b")
}

func allOrNone(c *trial) {
	c.create(task("flies", latest("l")))
	flies := c.one("claim", "flies")
	held := c.create(task("held", unique("taken"), latest("l2")))[0]
	var other outbox.ID
	c.ok("an ID of an hour ago", other.SetTime(held.ID.Time()-uint64(ages.Milliseconds())))
	for _, bad := range []struct {
		what        string
		first, then outbox.Task
	}{
		{"a Unique key that is taken", task("x"), task("x", unique("taken"))},
		{"a Unique key twice", task("x", unique("twice")), task("x", unique("twice"))},
		{"an ID that is held", task("x"), task("x", withID(held.ID))},
		{"an ID twice", task("x", withID(other)), task("x", withID(other))},
	} {
		before := c.stats()
		err := c.s.Create(c.ctx, []outbox.Task{
			task("x", unique("free 1")), task("x", latest("l")), bad.first, bad.then, task("x", unique("free 2"), latest("l2")),
		})
		c.fails("create with "+bad.what, err, outbox.ErrDuplicate)
		equal(c, "Stats after "+bad.what, c.stats(), before)
		c.named("list after "+bad.what, c.list(outbox.Filter{}), "flies held")
	}
	c.release(0, flies) // nothing newer of its LatestOnly key was accepted
	c.reopen()
	c.namedAnyhow("claim at the end", c.claim(many), "held flies")
	c.create(task("free", unique("free 1")), task("free", unique("free 2")),
		task("free", unique("twice")), task("free", withID(other)))
	c.ok("create of nothing", c.s.Create(c.ctx, nil))
	equal(c, "Accepted", c.stats().Accepted, 6)
}

func risingIDs(c *trial) {
	var last outbox.ID
	some := func(n int) {
		tasks := make([]outbox.Task, n)
		for i := range tasks {
			tasks[i] = task("a")
		}
		for _, t := range c.create(tasks...) {
			if t.ID.Compare(last) <= 0 {
				c.Errorf("ID %s was handed out after %s", t.ID, last)
			}
			last = t.ID
		}
	}
	for _, n := range []int{50, 1, 1, 50} {
		some(n)
	}
	c.reopen()
	some(50)
	c.done(c.claim(many)...) // gone tasks count as well: their IDs may not come again
	c.reopen()
	some(2)
}

func presetIDs(c *trial) {
	var past, future outbox.ID
	now := uint64(time.Now().UnixMilli())
	c.ok("an ID of an hour ago", past.SetTime(now-uint64(ages.Milliseconds())))
	c.ok("an ID of an hour ahead", future.SetTime(now+uint64(ages.Milliseconds())))
	first := c.create(task("new"))[0]
	made := c.create(task("past", withID(past)), task("future", withID(future)), task("newer"))
	if made[0].ID != past || made[1].ID != future {
		c.Errorf("create: got IDs %s and %s, want those given: %s and %s", made[0].ID, made[1].ID, past, future)
	}
	if made[2].ID.Compare(future) <= 0 {
		c.Errorf("ID %s was handed out after %s was accepted: tasks of one key would change places", made[2].ID, future)
	}
	c.named("list", c.list(outbox.Filter{}), "past new future newer")

	held := func(what string, id outbox.ID) {
		c.Helper()
		c.fails("create with the ID of a task that "+what, c.s.Create(c.ctx, []outbox.Task{task("x", withID(id))}), outbox.ErrDuplicate)
	}
	held("waits", first.ID)
	for _, t := range c.claim(many) {
		held("is in flight", t.ID)
		switch t.Name {
		case "new", "newer":
			c.done(t)
		default:
			c.bury(t)
		}
	}
	held("is dead", past)
	c.reopen()
	held("is dead", future)
	c.create(task("again", withID(first.ID))) // delivered: no longer held
	c.one("claim", "again")
}

func lastIDs(c *trial) {
	var beyond, end, last outbox.ID
	c.ok("the first ID that is too high", beyond.SetTime(outbox.MaxIDTime+1))
	c.ok("the last millisecond", last.SetTime(outbox.MaxIDTime))
	for i := range end {
		end[i] = 0xff
	}
	for i := 6; i < len(last); i++ {
		last[i] = 0xff
	}
	before := c.create(task("before"))[0]
	for _, id := range []outbox.ID{beyond, end} {
		c.fails("create with ID "+id.String(), c.s.Create(c.ctx, []outbox.Task{task("x"), task("x", withID(id))}), outbox.ErrInvalid)
	}
	c.named("list", c.list(outbox.Filter{}), "before")
	if next := c.create(task("next"))[0]; next.ID.Compare(before.ID) <= 0 || next.ID.Time() > before.ID.Time()+uint64(ages.Milliseconds()) {
		c.Errorf("after a refusal the next ID is %s, the one before was %s", next.ID, before.ID)
	}
	c.create(task("last", withID(last)))
	for _, name := range []string{"first above", "second above"} {
		t := c.create(task(name))[0]
		if t.ID.Compare(last) <= 0 {
			c.Errorf("ID %s was handed out after %s", t.ID, last)
		}
		last = t.ID
		c.reopen()
	}
	c.named("list in the end", c.list(outbox.Filter{}), "before next last first above second above")
}

func delays(c *trial) {
	start := time.Now()
	made := c.create(task("0"), task("25", delay(25*time.Millisecond)), task("50", delay(50*time.Millisecond)),
		task("never", delay(outbox.Forever)), task("before", delay(-ages)))
	for i, t := range made[:3] {
		if d := t.DueAt.Sub(made[0].DueAt) - t.Delay; d.Abs() > time.Millisecond {
			c.Errorf("DueAt of task %d is %v off its delay", i, d)
		}
	}
	got := c.claim(many)
	for _, name := range []string{"0", "before"} {
		if !slices.ContainsFunc(got, func(t outbox.Task) bool { return t.Name == name }) {
			c.Errorf("claim at once: got [%s], want %q among them", names(got), name)
		}
	}
	waited := map[string]time.Duration{"25": made[1].Delay, "50": made[2].Delay}
	c.await("claim of what was delayed by 50ms at most", func() bool {
		passed := time.Since(start) // before the claim: a late look must not hide an early one
		for _, t := range got {
			if passed < waited[t.Name] {
				c.Errorf("claimed %v after create, the delay was %v", passed, waited[t.Name])
			}
			delete(waited, t.Name)
		}
		got = c.claim(many)
		return len(waited) == 0
	})
	c.none("claim of what has an endless delay")
}

func claimedWhenCreated(c *trial) {
	c.dead(task("dead", key("dead")))
	c.create(task("older", key("held")))
	made := c.create(
		task("alone", lease(aWhile)),
		task("late", lease(aWhile), delay(ages)),
		task("k1", lease(aWhile), key("k")),
		task("k2", lease(aWhile), key("k")),
		task("younger", lease(aWhile), key("held")),
		task("after a dead one", lease(aWhile), key("dead")),
	)
	for _, t := range made {
		claimed := t.Name == "alone" || t.Name == "k1" || t.Name == "after a dead one"
		equal(c, t.Name+": claimed", t.State == outbox.InFlight, claimed)
		equal(c, t.Name+": has a token", t.Token != 0, claimed)
		equal(c, t.Name+": Attempt is 1", t.Attempt == 1, claimed)
	}
	c.named("claim of the rest", c.claim(many), "older")
	c.done(made[0], made[2])
	c.named("claim after k1 is done", c.claim(many), "k2")

	c.create(task("replaced 1", key("r"), latest("r")), task("replaced 2", key("rr"), latest("rr")))
	made = c.create(task("replaces 1", lease(aWhile), key("r"), latest("r")))
	equal(c, "State of one that has replaced the head of its key", made[0].State, outbox.InFlight)
	c.reopen()
	made = c.create(task("first of its key", lease(aWhile), key("new")), task("k3", lease(aWhile), key("k")),
		task("replaces 2", lease(aWhile), key("rr"), latest("rr")))
	equal(c, "State of the first task of a key after a reopen", made[0].State, outbox.InFlight)
	equal(c, "State of one behind others", made[1].State, outbox.Waiting)
	equal(c, "State of one that has replaced the head of its key before a reopen", made[2].State, outbox.InFlight)
	c.claim(many)

	short := 20 * time.Millisecond
	start := time.Now()
	c.create(task("short", lease(short)))
	c.sole("the lease of create ends", "short")
	if passed := time.Since(start); passed < short {
		c.Errorf("claimed %v after it was leased for %v", passed, short)
	}
}
