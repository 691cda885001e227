package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var parkRules = []rule{
	{90, "a parked key", "P4: once a ParkWholeKey task is dead, each later task of its key becomes a dead letter as it would be claimed, for ReasonKeyParked, with no attempt spent and no failure; other keys go on.", parkedKey},
	{91, "parked across a reopen", "A parked key stays parked across a reopen.", parkedReopened},
	{92, "Requeue of a parked key", "P4: requeueing the first dead letter of a parked key lets it go on; requeueing all of them delivers them in the order of their IDs.", unparkedByRequeue},
	{93, "Delete of a parked key", "Deleting the dead letter that parks a key lets it go on with what still waits.", unparkedByDelete},
	{94, "who parks a key", "Only a dead ParkWholeKey task parks its key, and only for what is younger; what died because its key was parked parks nothing.", whoParks},
	{95, "what is parked", "A task of a parked key waits until it would be claimed: a delay leaves it waiting, and so does a request that does not match, or whose Max is used up before its turn; it expires before it dies. Create claims nothing of a parked key.", whatIsParked},
}

func policy(p outbox.KeyPolicy) func(*outbox.Task) { return func(t *outbox.Task) { t.KeyPolicy = p } }

// whole is a task of key k that parks it when it dies.
func whole(name, k string, with ...func(*outbox.Task)) outbox.Task {
	return task(name, append(with, key(k), policy(outbox.ParkWholeKey))...)
}

// parked checks that the named, and no others, are dead because their key is parked.
func (c *trial) parked(what, want string) {
	c.Helper()
	var got []outbox.Task
	for _, t := range c.list(outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		if t.Reason != outbox.ReasonKeyParked {
			continue
		}
		got = append(got, t)
		if t.Attempts != 0 || len(t.Failures) != 0 {
			c.Errorf("%s: %s is dead for %q after %d attempts, with %d failures; want none", what, t.Name, t.Reason, t.Attempts, len(t.Failures))
		}
	}
	c.named(what, got, want)
}

func parkedKey(c *trial) {
	c.create(whole("1", "k"), task("2", key("k")), task("3", key("k"), policy(outbox.ParkKey)), whole("4", "k"))
	c.create(whole("other 1", "kk"), whole("other 2", "kk"), task("no key", policy(outbox.ParkWholeKey)))
	got := c.claim(many)
	c.namedAnyhow("claim", got, "1 other 1 no key")
	for _, t := range got {
		switch t.Name {
		case "1":
			c.bury(t)
			c.parked("nothing is dead before its turn", "")
			c.none("claim of a parked key")
		case "no key":
			c.bury(t)
		}
	}
	c.parked("as their turn came", "2 3 4")
	st := c.stats()
	equal(c, "Dead", st.Dead, 5)
	equal(c, "Pending", st.Pending, 1)
	for _, t := range got {
		if t.Name == "other 1" {
			c.done(t)
		}
	}
	c.done(c.one("claim of another key", "other 2"))
	c.create(task("5", key("k")))
	c.create(task("no key either"))
	c.done(c.one("claim of what has no key", "no key either"))
	c.none("claim of what came later")
	c.parked("what came later too", "2 3 4 5")
}

func parkedReopened(c *trial) {
	c.needReopen()
	c.dead(whole("1", "k"))
	c.create(task("2", key("k")))
	c.reopen()
	c.none("claim after a reopen")
	c.parked("after a reopen", "2")
	c.reopen()
	c.create(task("3", key("k")), task("other", key("kk")))
	c.reopen()
	c.done(c.one("claim after three", "other"))
	c.none("claim")
	c.parked("after three reopens", "2 3")
	equal(c, "Dead", c.stats().Dead, 3)
}

func unparkedByRequeue(c *trial) {
	made := c.dead(whole("1", "k"))
	made = append(made, c.create(task("2", key("k")), whole("3", "k"))...)
	c.none("claim of a parked key")
	c.reopen()

	n, err := c.s.Requeue(c.ctx, made[1].ID)
	c.ok("requeue of one behind the first", err)
	equal(c, "requeued", n, 1)
	c.none("claim: it is parked again")
	c.parked("the key is still parked", "2 3")

	n, err = c.s.Requeue(c.ctx, made[0].ID, made[1].ID, made[2].ID)
	c.ok("requeue of all", err)
	equal(c, "requeued", n, 3)
	c.create(task("4", key("k")))
	for _, name := range []string{"1", "2"} {
		c.done(c.one("claim in order", name))
	}
	c.reopen()
	c.bury(c.one("claim after a reopen", "3"))
	c.none("the key is parked anew")
	c.parked("by another", "4")
}

func unparkedByDelete(c *trial) {
	first := c.dead(whole("1", "k"))[0]
	c.create(task("2", key("k")), task("late", key("k"), delay(ages)), task("3", key("k")))
	c.none("claim of a parked key")
	c.parked("what was due", "2")
	n, err := c.s.Delete(c.ctx, first.ID)
	c.ok("delete", err)
	equal(c, "deleted", n, 1)
	c.none("the head is due in an hour")
	var late outbox.ID
	for _, t := range c.list(outbox.Filter{States: []outbox.State{outbox.Waiting}}) {
		if t.Name == "late" {
			late = t.ID
		}
	}
	_, err = c.s.Delete(c.ctx, late)
	c.ok("delete", err)
	c.done(c.one("the key goes on", "3"))
	c.reopen()
	c.create(task("4", key("k")))
	c.done(c.one("the key goes on after a reopen", "4"))
	c.parked("what died while it was parked stays dead", "2")
}

func whoParks(c *trial) {
	for _, p := range []outbox.KeyPolicy{outbox.BlockKey, outbox.ParkKey} {
		k := p.String()
		c.dead(task("dead", key(k), policy(p)))
		c.create(whole("next", k))
		c.done(c.one("claim behind a dead letter with "+k, "next"))
	}
	old := c.dead(task("old", key("k")))[0]
	first := c.dead(whole("1", "k"))[0]
	c.create(whole("2", "k"))
	_, err := c.s.Requeue(c.ctx, old.ID)
	c.ok("requeue", err)
	c.done(c.one("what is older than the dead letter that parks goes on", "old"))
	c.none("what is younger does not")
	c.parked("it is dead", "2")
	_, err = c.s.Delete(c.ctx, first.ID)
	c.ok("delete", err)
	c.create(task("3", key("k")))
	c.done(c.one("what died because the key was parked does not park it", "3"))
}

func whatIsParked(c *trial) {
	c.dead(whole("1", "k"))
	c.create(task("n1"))
	short := 10 * time.Millisecond
	got := c.create(task("leased", key("k"), lease(aWhile)), task("mortal", key("k"), ttl(short)), task("soon", key("k"), delay(2*short)), task("last", key("k")))
	equal(c, "state of a task with a Lease", got[0].State, outbox.Waiting)
	c.create(task("n2"))
	c.one("claim of what comes before", "n1")
	c.parked("nothing, for it was not its turn", "")
	only := func(name string) bool { return name == "n3" }
	c.create(task("n3"))
	c.named("claim that does not match", c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile, Match: only}).Tasks, "n3")
	c.parked("nothing, for nothing of the key was asked for", "")
	c.pass(short)
	c.named("claim", c.claim(many), "n2")
	c.await("the delay of the head passes", func() bool {
		c.none("claim of a parked key")
		return c.stats().Pending == 0
	})
	c.parked("all but the one that has expired", "leased soon last")
	equal(c, "Expired", c.stats().DroppedBy.Expired, 1)
}
