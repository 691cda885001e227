package storetest

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var claimRules = []rule{
	{10, "due order", "Claim takes the oldest due time first, and the oldest ID first among equals.", dueOrder},
	{11, "Max", "Claim takes at most Max tasks and says with NextIn 0 that there are more.", maxTasks},
	{12, "MaxBytes", "Claim takes at most MaxBytes of payload, in order, unless the first task alone has more.", maxBytes},
	{13, "leases", "Until its lease ends or is settled, nobody else gets a task.", leases},
	{14, "a lease ends", "When a lease ends the task waits again with no attempt spent, not before, and its next claim has another token.", leaseEnds},
	{15, "late outcomes", "An outcome counts after the lease has ended too, as long as nobody has claimed the task since.", lateOutcome},
	{16, "NextIn", "NextIn is how long until another task may become claimable by the passing of time: a head due, a lease ended; Forever if none will.", nextIn},
	{17, "in flight across a reopen", "Claiming survives no restart: after a reopen what was in flight waits again, at once, no attempt spent, and old tokens are worth nothing.", inFlightReopened},
}

func dueOrder(c *trial) {
	c.create(task("a1"), task("a2"))
	c.create(task("b1"))
	c.create(task("b2"))
	c.create(task("d", delay(20*time.Millisecond)), task("c", delay(10*time.Millisecond)))
	c.pass(20 * time.Millisecond)
	var got []outbox.Task
	for range 3 { // and from call to call
		got = append(got, c.claim(2)...)
	}
	c.named("claim", got, "a1 a2 b1 b2 c d")
	for _, t := range []int{4, 0, 2} { // each is due from now on, in this order
		c.release(0, got[t])
		c.pass(0)
	}
	c.named("claim after releases", c.claim(many), "c a1 b1")
}

func maxTasks(c *trial) {
	c.create(task("a"), task("b"), task("c"), task("d"), task("e"))
	for _, want := range []string{"a b", "c d"} {
		got := c.claimed(outbox.ClaimRequest{Max: 2, Lease: aWhile})
		c.named("claim of two", got.Tasks, want)
		equal(c, "NextIn while there are more", got.NextIn, 0)
	}
	c.named("claim of two", c.claim(2), "e")
	c.named("claim of two", c.claim(2), "")
}

func maxBytes(c *trial) {
	bytes := func(n int) func(*outbox.Task) { return payload(make([]byte, n)) }
	c.create(task("a", bytes(60)), task("b", bytes(40)), task("c", bytes(1)),
		task("d", bytes(500)), task("e", bytes(0)), task("f", bytes(100)))
	for _, want := range []string{"a b", "c", "d", "e f"} {
		got := c.claimed(outbox.ClaimRequest{Max: many, MaxBytes: 100, Lease: aWhile})
		c.named("claim of 100 bytes", got.Tasks, want)
		equal(c, "NextIn is 0", got.NextIn == 0, want != "e f")
	}
}

func leases(c *trial) {
	c.create(task("a"), task("b"), task("c"))
	first := c.one("first claim", "a")
	c.named("second claim", c.claim(1), "b")
	c.named("third claim", c.claim(many), "c")
	c.none("claim of what is in flight")
	c.done(first)
	c.none("claim of what is delivered")

	// A lease that is too long, or not given, is the longest there is.
	for name, d := range map[string]time.Duration{"zero": 0, "endless": outbox.Forever} {
		c.create(task(name))
		got := c.claimed(outbox.ClaimRequest{Max: 1, Lease: d})
		c.named("claim", got.Tasks, name)
		c.none("claim under a lease of " + d.String())
	}
}

func leaseEnds(c *trial) {
	short := 25 * time.Millisecond
	c.create(task("a", key("k")), task("b", key("k")))
	start := time.Now()
	got := c.claimed(outbox.ClaimRequest{Max: many, Lease: short})
	c.named("claim", got.Tasks, "a")
	if got.NextIn <= 0 || got.NextIn > short {
		c.Errorf("NextIn = %v while a lease of %v runs", got.NextIn, short)
	}
	again := c.sole("the lease ends", "a")
	if passed := time.Since(start); passed < short {
		c.Errorf("claimed again %v after a lease of %v began", passed, short)
	}
	old := got.Tasks[0]
	equal(c, "Attempts", again.Attempts, 0)
	equal(c, "failures", len(again.Failures), 0)
	equal(c, "the token is the same", again.Token == old.Token, false)
	c.fails("settle with the token of the ended lease", c.s.Settle(c.ctx, []outbox.Outcome{
		outcome(old, outbox.Outcome{Verdict: outbox.Done}),
	}), outbox.ErrLeaseLost)
	equal(c, "State after it", c.find(again.ID).State, outbox.InFlight)
	c.done(again)
	c.one("the next of the key", "b")
}

func lateOutcome(c *trial) {
	c.create(task("a"), task("b"), task("c"))
	got := c.claimed(outbox.ClaimRequest{Max: many, Lease: time.Millisecond}).Tasks
	c.named("claim", got, "a b c")
	c.pass(time.Millisecond)
	c.stats() // a look alone changes nothing
	c.done(got[0])
	c.retry(ages, got[1])
	c.bury(got[2])
	st := c.stats()
	equal(c, "Delivered", st.Delivered, 1)
	equal(c, "Dead", st.Dead, 1)
	equal(c, "Attempts of b", c.find(got[1].ID).Attempts, 1)
	c.none("claim after late outcomes")
}

func nextIn(c *trial) {
	claim := func(what, want string, least, most time.Duration) []outbox.Task {
		c.Helper()
		got := c.claimed(outbox.ClaimRequest{Max: many, Lease: aWhile})
		c.named(what, got.Tasks, want)
		if got.NextIn < least || got.NextIn > most {
			c.Errorf("%s: NextIn = %v, want %v to %v", what, got.NextIn, least, most)
		}
		return got.Tasks
	}
	claim("an empty store", "", outbox.Forever, outbox.Forever)
	made := c.create(task("a", delay(ages)))
	claim("one due in an hour", "", ages/2, ages)
	c.create(task("b", delay(ages/4)), task("a later", delay(2*ages)))
	claim("the next due in 15 minutes", "", ages/8, ages/4)
	c.create(task("head", key("k"), delay(ages/10)), task("behind", key("k")))
	claim("a head due in 6 minutes", "", ages/20, ages/10)
	c.create(task("now", key("n")), task("behind now", key("n")))
	got := claim("a lease of a minute has just begun", "now", aWhile/2, aWhile)
	claim("a lease of a minute is running", "", aWhile/2, aWhile)
	c.done(got...)
	got = claim("the one behind", "behind now", aWhile/2, aWhile)
	c.bury(got...)
	claim("the lease is settled, the task dead", "", ages/20, ages/10)
	n, err := c.s.Delete(c.ctx, made[0].ID)
	c.ok("delete", err)
	equal(c, "deleted", n, 1)
}

func inFlightReopened(c *trial) {
	c.needReopen()
	c.create(task("a"), task("b", key("k")), task("c", key("k")), task("d", lease(aWhile)))
	old := c.claim(many)
	c.named("claim", old, "a b")
	c.retry(0, old[0]) // so that a has spent one
	old[0] = c.one("claim", "a")
	c.reopen()
	equal(c, "InFlight after a reopen", c.stats().InFlight, 0)
	c.fails("settle with a token of before", c.s.Settle(c.ctx, []outbox.Outcome{
		outcome(old[0], outbox.Outcome{Verdict: outbox.Done}),
		outcome(old[1], outbox.Outcome{Verdict: outbox.Bury}),
	}), outbox.ErrLeaseLost)
	got := c.claim(many)
	c.namedAnyhow("claim after a reopen", got, "a b d")
	for _, t := range got {
		want := 0
		if t.Name == "a" {
			want = 1
		}
		equal(c, "Attempts of "+t.Name, t.Attempts, want)
		equal(c, "failures of "+t.Name, len(t.Failures), want)
	}
	c.none("second claim")
}
