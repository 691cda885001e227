package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// latestRules leave one choice: a task that was replaced while in flight may be
// dropped when it comes back, or by the next Claim.
var latestRules = []rule{
	{36, "LatestOnly", "A newer task with a LatestOnly key takes the place of those that wait, also within one call and across a reopen; they are dropped as coalesced when it is accepted.", latestReplaces},
	{37, "LatestOnly in flight", "A task in flight is not touched by a newer one of its LatestOnly key; if it comes back, by Retry, Release, the end of its lease or a reopen, it is dropped as coalesced.", latestInFlight},
	{117, "LatestOnly goes by IDs", "A task with a preset ID is refused with ErrDuplicate while one with its LatestOnly key and a higher ID waits or is in flight, or stands before it in the call; it takes the place of one with a lower ID.", latestByID},
	{38, "LatestOnly and dead letters", "A newer task leaves dead letters alone; while it waits or is in flight they can not be requeued, afterwards they can.", latestDead},
}

func latestReplaces(c *trial) {
	c.create(task("a1", latest("a")), task("b1", latest("b")), task("n1"))
	c.create(task("a2", latest("a"), key("k")), task("behind", key("k")))
	c.create(task("a3", latest("a")))
	c.named("list", c.list(outbox.Filter{}), "b1 n1 behind a3")
	got := c.claim(many)
	c.named("claim", got, "b1 n1 behind a3")
	equal(c, "Coalesced", c.stats().DroppedBy.Coalesced, 2)
	c.done(got...)

	c.create(task("c1", latest("c")), task("c2", latest("c")), task("d1", latest("d"), delay(ages)), task("c3", latest("c")))
	c.create(task("e1", latest("e")))
	c.retry(ages, c.claim(many)...)
	c.reopen()
	c.create(task("c4", latest("c")), task("d2", latest("d")))
	c.reopen()
	got = c.claim(many)
	c.namedAnyhow("claim", got, "c4 d2")
	c.namedAnyhow("list", c.list(outbox.Filter{}), "e1 c4 d2")
	equal(c, "Coalesced", c.stats().DroppedBy.Coalesced, 6)
}

func latestByID(c *trial) {
	var past, older outbox.ID
	made := c.create(task("new", latest("l")), task("other"))
	c.ok("an ID of an hour ago", past.SetTime(made[0].ID.Time()-uint64(ages.Milliseconds())))
	c.ok("one of two hours ago", older.SetTime(made[0].ID.Time()-2*uint64(ages.Milliseconds())))
	refused := func(what string, tasks ...outbox.Task) {
		c.Helper()
		before := c.stats()
		c.fails("create with an ID below that of one that "+what, c.s.Create(c.ctx, tasks), outbox.ErrDuplicate)
		equal(c, "Stats after the refusal for one that "+what, c.stats(), before)
	}
	refused("waits", task("x"), task("old", latest("l"), withID(past)))
	c.reopen()
	refused("waits after a reopen", task("old", latest("l"), withID(past)))
	refused("comes before it", task("x", latest("l2"), withID(past)), task("y", latest("l2"), withID(older)))
	got := c.claim(many)
	c.named("claim", got, "new other")
	refused("is in flight", task("old", latest("l"), withID(past)))
	c.done(got...)
	c.create(task("oldest", latest("l"), withID(older)))
	c.reopen()
	c.create(task("old", latest("l"), withID(past)))
	c.reopen()
	c.named("the higher ID is left", c.claim(many), "old")
	equal(c, "Coalesced", c.stats().DroppedBy.Coalesced, 1)
}

func latestInFlight(c *trial) {
	short := 5 * time.Millisecond
	ways := map[string]func(t outbox.Task){
		"Retry":   func(t outbox.Task) { c.retry(0, t) },
		"Release": func(t outbox.Task) { c.release(0, t) },
		"lease":   func(outbox.Task) { c.pass(short) },
		"Done":    func(t outbox.Task) { c.done(t) },
		"Bury":    func(t outbox.Task) { c.bury(t) },
		"reopen":  func(outbox.Task) { c.reopen() },
	}
	if c.h.Reopen == nil {
		delete(ways, "reopen")
	}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		for _, first := range []string{"the old one comes back", "the new one is delivered"} {
			what := "way " + way + ", first " + first + ": "
			before := c.stats()
			c.create(task("old", latest(way)))
			d := aWhile
			if way == "lease" {
				d = short
			}
			old := c.claimed(outbox.ClaimRequest{Max: 1, Lease: d}).Tasks
			c.named(what+"claim", old, "old")
			c.create(task("new", latest(way)))
			if first == "the old one comes back" {
				ways[way](old[0])
				c.done(c.one(what+"claim", "new"))
			} else {
				c.done(c.one(what+"claim", "new"))
				ways[way](old[0])
			}
			c.none(what + "claim at the end")

			delivered, dead, coalesced := uint64(1), uint64(0), uint64(1)
			switch way {
			case "Done":
				delivered, coalesced = 2, 0
			case "Bury":
				dead, coalesced = 1, 0
			}
			st := c.stats()
			equal(c, what+"Delivered", st.Delivered-before.Delivered, delivered)
			equal(c, what+"Dead", st.Dead-before.Dead, dead)
			equal(c, what+"Coalesced", st.DroppedBy.Coalesced-before.DroppedBy.Coalesced, coalesced)
		}
	}
}

func latestDead(c *trial) {
	dead := c.dead(task("dead", latest("l")))[0]
	c.create(task("newer", latest("l")))
	equal(c, "State of the dead one", c.find(dead.ID).State, outbox.Dead)
	_, err := c.s.Requeue(c.ctx, dead.ID)
	c.fails("requeue beside a newer one that waits", err, outbox.ErrDuplicate)
	c.reopen()
	newer := c.one("claim", "newer")
	_, err = c.s.Requeue(c.ctx, dead.ID)
	c.fails("requeue beside a newer one in flight", err, outbox.ErrDuplicate)
	equal(c, "State of the dead one, passed over", c.find(dead.ID).State, outbox.Dead)
	c.done(newer)
	_, err = c.s.Requeue(c.ctx, dead.ID)
	c.ok("requeue after the newer one", err)
	c.reopen()
	c.named("the requeued one waits", c.list(outbox.Filter{}), "dead")
	c.create(task("newest", latest("l")))
	c.named("one that is newer still", c.claim(many), "newest")
	equal(c, "Coalesced", c.stats().DroppedBy.Coalesced, 1)
}
