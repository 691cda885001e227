package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var exportRules = []rule{
	{118, "Export", "Export lists as Tasks does, and says how long it is until a task is due, also after a Retry or if it has been due for long, and until it expires.", exported},
}

var importRules = []rule{
	{119, "Import keeps all", "P1, P5: what Import has accepted is there, after a reopen too, as it was exported: ID, CreatedAt, attempts, history and all that Create keeps, due and expiring on the store's own clock; it counts as accepted, and IDs rise above it.", imported},
	{120, "Import of dead letters", "An imported dead letter keeps its Reason, attempts and history, holds no Unique and no LatestOnly key, parks its key if it did, and can be requeued.", importedDead},
	{121, "Import again", "Import passes over what the store holds, in whatever state, and what waits while a newer task of its LatestOnly key does, and counts neither.", importedTwice},
	{122, "Import is all or none", "Import refuses a Unique key that is taken with ErrDuplicate, and IDs that are none or do not rise and dead letters without a reason with ErrInvalid; what it refuses reserves nothing.", importedOrNot},
	{123, "Import and order", "P4: imported tasks are claimed by their due time, also if that is long past, and take their place among those of their key by ID; one in flight is not overtaken.", importedOrder},
	{124, "Import of what was here", "A task that was delivered or deleted here can be imported again.", importedBack},
	{125, "Import and transactions", "Import joins no transaction: it refuses with ErrTxUnsupported.", importedInTx},
}

// source are tasks as an Export of another store would list them, with IDs of an hour ago.
// Databases count microseconds.
func (c *trial) source(tasks ...outbox.Task) []outbox.Task {
	c.Helper()
	var id outbox.ID
	c.ok("an ID of an hour ago", id.SetTime(uint64(time.Now().Add(-ages).UnixMilli())))
	for i := range tasks {
		id[15]++
		tasks[i].ID, tasks[i].CreatedAt = id, time.Now().Add(-ages).Truncate(time.Microsecond).UTC()
	}
	return tasks
}

func died(r outbox.Reason) func(*outbox.Task) {
	return func(t *outbox.Task) {
		t.State, t.Reason = outbox.Dead, r
		if r != outbox.ReasonKeyParked {
			t.Attempts = 1
			t.Failures = []outbox.Failure{{At: time.Now().Add(-aWhile), Attempt: 1, Error: "no"}}
		}
	}
}

// imports has the store import tasks, and checks how many it takes.
func (c *trial) imports(want int, tasks ...outbox.Task) {
	c.Helper()
	s, ok := c.s.(outbox.Importer)
	if !ok {
		c.Skipf("the store is no Importer")
	}
	n, err := s.Import(c.ctx, tasks)
	c.ok("import", err)
	equal(c, "imported", n, want)
}

// refuses checks that an import is refused and changes nothing.
func (c *trial) refuses(what string, want error, tasks ...outbox.Task) {
	c.Helper()
	s, ok := c.s.(outbox.Importer)
	if !ok {
		c.Skipf("the store is no Importer")
	}
	before, listed := c.stats(), names(c.list(outbox.Filter{}))
	n, err := s.Import(c.ctx, tasks)
	c.fails("import of "+what, err, want)
	equal(c, "imported of "+what, n, 0)
	equal(c, "Stats after "+what, c.stats(), before)
	c.named("list after "+what, c.list(outbox.Filter{}), listed)
}

func (c *trial) exports(f outbox.Filter) (all []outbox.Task) {
	c.Helper()
	s, ok := c.s.(outbox.Exporter)
	if !ok {
		c.Skipf("the store is no Exporter")
	}
	for t, err := range s.Export(c.ctx, f) {
		c.ok("export", err)
		all = append(all, t)
	}
	return all
}

func exported(c *trial) {
	start := time.Now()
	c.create(task("late", ttl(ages), delay(aWhile)), task("never", delay(outbox.Forever)))
	c.create(task("tried"))
	c.retry(ages, c.one("claim", "tried"))
	c.dead(task("dead", ttl(ages)))
	c.create(task("old"), task("short", ttl(time.Millisecond)))
	c.reopen()
	c.pass(3 * time.Millisecond)
	got := c.exports(outbox.Filter{})
	c.named("export", got, "late never tried dead old short")
	passed := time.Since(start) + pause
	between := func(what string, d, most time.Duration) {
		c.Helper()
		if d > most || d < most-passed {
			c.Errorf("%s: %v are left, want %v at most and %v less at least", what, d, most, passed)
		}
	}
	for i, t := range c.list(outbox.Filter{}) {
		c.same("exported", got[i], t)
		equal(c, "State of "+t.Name, got[i].State, t.State)
	}
	between("Delay of late", got[0].Delay, aWhile)
	between("TTL of late", got[0].TTL, ages)
	if got[1].Delay < 1000*ages {
		c.Errorf("Delay of never is %v", got[1].Delay)
	}
	between("Delay of one that was tried", got[2].Delay, ages)
	between("TTL of the dead", got[3].TTL, ages)
	between("Delay of what is due", got[4].Delay, -3*time.Millisecond)
	equal(c, "TTL of what never expires", got[4].TTL, 0)
	equal(c, "TTL of what has expired", got[5].TTL, 1)
	c.named("export of the dead", c.exports(outbox.Filter{States: []outbox.State{outbox.Dead}}), "dead")
	c.named("export of a page", c.exports(outbox.Filter{After: got[0].ID, Limit: 2}), "never tried")
}

func imported(c *trial) {
	rich := task("rich", key("k"), unique("u"), latest("l"), ttl(ages), delay(aWhile), class(outbox.High), lease(ages))
	rich.Headers, rich.KeyPolicy, rich.UniqueFor = map[string]string{"a": "b"}, outbox.ParkWholeKey, ages
	rich.RetryBase, rich.RetryMax, rich.MaxAttempts, rich.Attempts = time.Second, time.Minute, 7, 2
	rich.Failures = []outbox.Failure{{At: time.Now().Add(-ages), Attempt: 1, Error: "no"}, {At: time.Now().Add(-aWhile), Attempt: 2, Error: "still no"}}
	want := c.source(task("plain"), rich, task("flew"))
	want[2].State, want[2].Token, want[2].Attempt = outbox.InFlight, 9, 1
	before := time.Now()
	c.imports(3, want...)
	equal(c, "Lease of what was handed in", want[1].Lease, ages)
	for range 2 {
		for i, t := range c.list(outbox.Filter{}) {
			w := want[i]
			w.ExpiresAt = time.Time{}
			if w.TTL > 0 {
				w.ExpiresAt = time.Now().Add(w.TTL)
			}
			c.same("imported", t, w)
			equal(c, "State of "+t.Name, t.State, outbox.Waiting)
			type more struct {
				class             outbox.Priority
				policy            outbox.KeyPolicy
				uniqueFor, lo, hi time.Duration
			}
			if got, want := (more{t.Priority, t.KeyPolicy, t.UniqueFor, t.RetryBase, t.RetryMax}),
				(more{w.Priority, w.KeyPolicy, w.UniqueFor, w.RetryBase, w.RetryMax}); got != want {
				c.Errorf("imported %s: got %+v, want %+v", t.Name, got, want)
			}
		}
		c.reopen()
	}
	equal(c, "Accepted", c.stats().Accepted, 3)
	for _, t := range c.list(outbox.Filter{}) {
		if passed := time.Since(before) + time.Second; t.Name == "rich" && (t.ExpiresAt.Sub(t.DueAt)-(ages-aWhile)).Abs() > passed {
			c.Errorf("due %v, expires %v: want %v in between", t.DueAt, t.ExpiresAt, ages-aWhile)
		}
	}
	got := c.claim(many)
	c.named("claim: one is not due yet", got, "plain flew")
	equal(c, "Attempt of one that was in flight", got[1].Attempt, 1)
	var high outbox.ID
	c.ok("an ID of an hour ahead", high.SetTime(uint64(time.Now().Add(ages).UnixMilli())))
	c.imports(1, task("high", withID(high)))
	if t := c.create(task("next"))[0]; t.ID.Compare(high) <= 0 {
		c.Errorf("ID %s was handed out after %s was imported", t.ID, high)
	}
}

func importedDead(c *trial) {
	list := c.source(task("parks", key("k"), policy(outbox.ParkWholeKey), died(outbox.ReasonPermanent)),
		task("parked", key("k"), died(outbox.ReasonKeyParked)),
		task("held", unique("u"), latest("l"), ttl(ages), died(outbox.ReasonExhausted)),
		task("behind", key("k")))
	list[2].Attempts, list[2].Failures = 3, append(list[2].Failures, outbox.Failure{At: time.Now(), Attempt: 3, Error: "no more"})
	c.create(task("newer", latest("l")))
	c.imports(4, list...)
	c.reopen()
	c.create(task("other", unique("u")))
	equal(c, "Dead", c.stats().Dead, 3)
	equal(c, "Accepted", c.stats().Accepted, 6)
	for i, t := range c.list(outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		list[i].ExpiresAt = t.ExpiresAt
		c.same("dead", t, list[i])
	}
	got := c.claim(many)
	c.namedAnyhow("claim of a parked key", got, "newer other")
	c.done(got...)
	equal(c, "Dead", c.stats().Dead, 4)
	c.reopen()
	var ids []outbox.ID
	for _, t := range list {
		ids = append(ids, t.ID)
	}
	n, err := c.s.Requeue(c.ctx, ids...)
	c.ok("requeue", err)
	equal(c, "requeued", n, 4)
	got = c.claim(many)
	c.namedAnyhow("claim of the requeued", got, "parks held")
	c.done(got...)
	c.done(c.one("next of the key", "parked"))
	c.done(c.one("last of the key", "behind"))
}

func importedTwice(c *trial) {
	list := c.source(task("waits", unique("u")), task("flies"), task("dies", key("k")), task("dead", died(outbox.ReasonPermanent)),
		task("outdated", latest("l")), task("latest", latest("l")), task("old", latest("m")), task("shot", latest("m"), died(outbox.ReasonPermanent)), task("more"))
	c.imports(8, list[:8]...)
	equal(c, "Coalesced", c.stats().DroppedBy.Coalesced, 1)
	newer := c.create(task("newer", latest("m"), delay(ages)))[0]
	got := c.claim(many)
	c.namedAnyhow("claim", got, "waits flies dies latest")
	for _, t := range got {
		switch t.Name {
		case "waits":
			c.retry(ages, t)
		case "dies":
			c.bury(t)
		case "latest":
			c.release(0, t)
		}
	}
	before, listed := c.stats(), "waits flies dies dead latest shot "
	c.imports(0, list[:8]...)
	after := c.stats()
	before.OldestPending = after.OldestPending // one that is retried may count a moment later
	equal(c, "Stats after a second import", after, before)
	c.named("list after a second import", c.list(outbox.Filter{}), listed+"newer")
	c.reopen()
	c.imports(1, list...)
	c.imports(0, list...)
	c.named("list after a third", c.list(outbox.Filter{}), listed+"more newer")
	equal(c, "Accepted", c.stats().Accepted, 10)
	_, err := c.s.Delete(c.ctx, newer.ID)
	c.ok("delete", err)
}

func importedOrNot(c *trial) {
	held := c.create(task("held", uniqueFor("taken", ages)))[0]
	list := c.source(task("a", unique("free")), task("b", unique("taken")), task("c", unique("twice")), task("d", unique("twice")))
	c.refuses("a Unique key that is taken", outbox.ErrDuplicate, list[0], list[1])
	c.refuses("a Unique key twice", outbox.ErrDuplicate, list[0], list[2], list[3])
	c.refuses("no ID", outbox.ErrInvalid, task("x", unique("free")), list[0])
	c.refuses("an ID twice", outbox.ErrInvalid, list[0], list[0])
	c.refuses("falling IDs", outbox.ErrInvalid, list[2], list[0])
	c.refuses("a death for no reason", outbox.ErrInvalid, list[0], task("x", withID(list[3].ID), died("")))
	c.refuses("a damaged one", outbox.ErrCorrupt, list[0], task("x", withID(list[3].ID), died(outbox.ReasonDamaged)))
	var end outbox.ID
	c.ok("too high an ID", end.SetTime(outbox.MaxIDTime+1))
	c.refuses("too high an ID", outbox.ErrInvalid, list[0], task("x", withID(end)))
	c.done(c.one("claim", "held"))
	c.reopen()
	c.refuses("a Unique key that is taken since a delivery", outbox.ErrDuplicate, list[0], list[1])
	c.imports(2, list[0], list[3])
	if next := c.create(task("next"))[0]; next.ID.Time() > held.ID.Time()+uint64(ages.Milliseconds()) {
		c.Errorf("the next ID is %s: what was refused reserves none", next.ID)
	}
	c.imports(0)
}

func importedOrder(c *trial) {
	short := 2 * time.Millisecond
	c.create(task("k3", key("k")), task("now"))
	c.imports(3, c.source(task("due later", delay(-aWhile)), task("due first", delay(-ages)), task("k1", key("k"), delay(-aWhile-time.Microsecond)))...)
	c.reopen()
	got := c.claim(many)
	c.named("claim", got, "due first k1 due later now")
	var k0 outbox.ID
	c.ok("an ID of two hours ago", k0.SetTime(uint64(time.Now().Add(-2*ages).UnixMilli())))
	c.imports(1, task("k0", key("k"), withID(k0), ttl(ages)))
	c.none("claim while one of the key is in flight")
	c.done(got...)
	c.done(c.one("the lowest ID of the key", "k0"))
	c.done(c.one("the last of the key", "k3"))
	list := c.source(task("x"), task("gone", ttl(short)), task("soon", delay(short)))
	c.imports(3, list...)
	c.pass(short)
	got = nil
	c.await("what is due is there", func() bool {
		got = append(got, c.claim(many)...)
		return len(got) == 2
	})
	c.named("claim of what was due soon", got, "x soon")
	equal(c, "Expired", c.stats().DroppedBy.Expired, 1)
}

func importedBack(c *trial) {
	list := c.source(task("delivered", key("k")), task("deleted", latest("l")), task("dead", died(outbox.ReasonPermanent)))
	for i := range 3 {
		c.imports(3, list...)
		if i == 1 {
			c.reopen()
		}
		for _, t := range c.claim(many) {
			if t.Name == "delivered" {
				c.done(t)
			} else {
				c.release(0, t)
			}
		}
		n, err := c.s.Delete(c.ctx, list[1].ID, list[2].ID)
		c.ok("delete", err)
		equal(c, "deleted", n, 2)
	}
	c.named("list", c.list(outbox.Filter{}), "")
	equal(c, "Accepted", c.stats().Accepted, 9)
	c.imports(3, list...)
	c.reopen()
	c.named("list", c.list(outbox.Filter{}), "delivered deleted dead")
}

func importedInTx(c *trial) {
	s, ok := c.s.(outbox.Importer)
	if !ok {
		c.Skipf("the store is no Importer")
	}
	_, err := s.Import(outbox.WithTx(c.ctx, errors.New("no transaction")), c.source(task("a")))
	c.fails("import in a transaction", err, outbox.ErrTxUnsupported)
	equal(c, "listed", fmt.Sprint(len(c.list(outbox.Filter{}))), "0")
}
