package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var settleRules = []rule{
	{24, "Done", "A delivered task is gone and counted, also after a reopen.", doneGone},
	{25, "Retry", "Retry spends an attempt, adds the failure to the history and makes the task due after Delay, not before.", retryWaits},
	{26, "Retry across a reopen", "Attempts, history and schedule of a refused task survive a reopen; it never waits longer than its own delay.", retryReopened},
	{27, "Release", "P6: Release spends no attempt and leaves no trace; the task is due again after Delay, and at once after a reopen.", releaseWaits},
	{28, "Bury", "A buried task is a dead letter: listed with its reason and history, kept across a reopen, never claimed. ReasonUnhandled spends no attempt.", buryKeeps},
	{29, "tokens", "An outcome whose token is not the current claim changes nothing and gives ErrLeaseLost; the others of the call take effect.", tokens},
	{30, "history", "The history keeps the last MaxFailures failures, oldest first, each text cut to MaxErrorBytes.", history},
}

func doneGone(c *trial) {
	c.create(task("a"), task("b"), task("c"))
	got := c.claim(2)
	c.done(got...)
	equal(c, "Delivered", c.stats().Delivered, 2)
	c.named("list", c.list(outbox.Filter{}), "c")
	c.reopen()
	equal(c, "Delivered after a reopen", c.stats().Delivered, 2)
	c.named("list after a reopen", c.list(outbox.Filter{}), "c")
	c.named("claim after a reopen", c.claim(many), "c")
}

func retryWaits(c *trial) {
	c.create(task("a", key("k"), ttl(ages)))
	var want []outbox.Failure
	for attempt, wait := range []time.Duration{0, 20 * time.Millisecond, -ages} {
		got := c.sole("claim", "a")
		equal(c, "Attempt", got.Attempt, attempt+1)
		failure := outbox.Failure{At: time.Now(), Attempt: got.Attempt, Error: fmt.Sprintf("refused %d times", got.Attempt)}
		want = append(want, failure)
		start := time.Now()
		c.settle([]outbox.Task{got}, outbox.Outcome{Verdict: outbox.Retry, Delay: wait, Failure: failure})

		listed := c.find(got.ID)
		equal(c, "State", listed.State, outbox.Waiting)
		equal(c, "Attempts", listed.Attempts, attempt+1)
		got.Attempts, got.Failures = attempt+1, want
		c.same("after a retry", listed, got)

		got = c.sole("the retry is due", "a")
		if passed := time.Since(start); passed < wait {
			c.Errorf("retry after %v was claimed after %v", wait, passed)
		}
		c.release(0, got)
	}
	c.done(c.sole("claim", "a"))
	c.create(task("b"))
	c.retry(outbox.Forever, c.one("claim", "b"))
	c.none("claim of what is retried after an endless delay")
}

func retryReopened(c *trial) {
	c.needReopen()
	c.create(task("a"), task("b"), task("c"))
	var want []outbox.Task
	for _, t := range c.claim(many) {
		c.retry(0, t)
		want = append(want, t)
	}
	for i, t := range c.claim(many) {
		if t.Name == "c" {
			c.retry(0, t)
		} else {
			c.retry(ages, t)
		}
		want[i].Attempts = 2
		for n := 1; n <= 2; n++ {
			want[i].Failures = append(want[i].Failures, outbox.Failure{At: time.Now(), Attempt: n, Error: "refused " + t.Name})
		}
	}
	for range 2 {
		c.reopen()
		for i, t := range c.list(outbox.Filter{}) {
			for n, f := range t.Failures { // the rule for settle has compared these
				if n < len(want[i].Failures) {
					want[i].Failures[n].At = f.At
				}
			}
			c.same("after a reopen", t, want[i])
			equal(c, "State", t.State, outbox.Waiting)
		}
		got := c.claimed(outbox.ClaimRequest{Max: many, Lease: outbox.MaxLease})
		c.named("claim after a reopen", got.Tasks, "c")
		equal(c, "Attempt", got.Tasks[0].Attempt, 3)
		if got.NextIn > ages || got.NextIn < ages/2 {
			c.Errorf("NextIn = %v, want at most the delay, %v, and not much less", got.NextIn, ages)
		}
	}
}

func releaseWaits(c *trial) {
	made := c.create(task("a"))
	for _, wait := range []time.Duration{0, 20 * time.Millisecond, -ages} {
		got := c.sole("claim", "a")
		start := time.Now()
		c.release(wait, got)
		c.same("after a release", c.find(got.ID), made[0])
		got = c.sole("the release is due", "a")
		if passed := time.Since(start); passed < wait {
			c.Errorf("released for %v, claimed after %v", wait, passed)
		}
		equal(c, "Attempt", got.Attempt, 1)
		equal(c, "failures", len(got.Failures), 0)
		c.release(0, got)
	}
	c.release(ages, c.one("claim", "a"))
	c.none("claim of what is released for an hour")
	if c.reopen() {
		equal(c, "Attempt after a reopen", c.one("claim after a reopen", "a").Attempt, 1)
	}
}

func buryKeeps(c *trial) {
	c.create(task("a"), task("b"), task("c"), task("d"))
	got := c.claim(3)
	attempts := []int{1, 1, 0}
	for i, reason := range []outbox.Reason{outbox.ReasonExhausted, outbox.ReasonPermanent, outbox.ReasonUnhandled} {
		failure := outbox.Failure{At: time.Now(), Attempt: attempts[i], Error: "refused " + got[i].Name}
		c.settle(got[i:i+1], outbox.Outcome{Verdict: outbox.Bury, Reason: reason, Failure: failure})
		got[i].Attempts, got[i].Reason = attempts[i], reason
	}
	for range 2 {
		dead := c.list(outbox.Filter{States: []outbox.State{outbox.Dead}})
		c.named("list of the dead", dead, "a b c")
		for i, t := range dead {
			equal(c, "State", t.State, outbox.Dead)
			equal(c, "Attempts of "+t.Name, t.Attempts, attempts[i])
			if len(t.Failures) != 1 || t.Failures[0].Error != "refused "+t.Name || t.Failures[0].Attempt != attempts[i] {
				c.Errorf("history of %s: got %v, want one failure", t.Name, t.Failures)
			}
			got[i].Failures = t.Failures
			c.same("dead", t, got[i])
		}
		equal(c, "Dead", c.stats().Dead, 3)
		c.reopen()
	}
	c.named("claim", c.claim(many), "d")
}

func tokens(c *trial) {
	c.create(task("a"), task("b"), task("c"), task("d"), task("e"))
	got := c.claim(4)
	a, b, d, e := got[0], got[1], got[3], c.list(outbox.Filter{})[4]
	wrong, never, unknown := got[2], e, outbox.Task{Event: outbox.Event{ID: e.ID}, Token: 1}
	wrong.Token += 1000
	unknown.ID[15] ^= 0xff
	err := c.s.Settle(c.ctx, []outbox.Outcome{
		outcome(a, outbox.Outcome{Verdict: outbox.Done}),
		outcome(wrong, outbox.Outcome{Verdict: outbox.Done}),
		outcome(a, outbox.Outcome{Verdict: outbox.Bury}), // a second verdict
		outcome(never, outbox.Outcome{Verdict: outbox.Done}),
		outcome(unknown, outbox.Outcome{Verdict: outbox.Done}),
		outcome(b, outbox.Outcome{Verdict: outbox.Retry, Delay: ages}),
		outcome(d, outbox.Outcome{Verdict: outbox.Bury}),
	})
	c.fails("settle with some wrong tokens", err, outbox.ErrLeaseLost)
	st := c.stats()
	equal(c, "Delivered", st.Delivered, 1)
	equal(c, "Dead", st.Dead, 1)
	equal(c, "InFlight", st.InFlight, 1)
	equal(c, "Attempts of b", c.find(b.ID).Attempts, 1)
	equal(c, "State of c", c.find(wrong.ID).State, outbox.InFlight)

	for _, t := range []outbox.Task{a, b, d} { // delivered, waiting, dead
		err := c.s.Settle(c.ctx, []outbox.Outcome{outcome(t, outbox.Outcome{Verdict: outbox.Done})})
		c.fails("a second settle of "+t.Name, err, outbox.ErrLeaseLost)
	}
	c.done(got[2])
	c.one("what nobody had claimed", "e")
	c.ok("settle of nothing", c.s.Settle(c.ctx, nil))
}

func history(c *trial) {
	t := task("a")
	t.MaxAttempts = 100
	id := c.create(t)[0].ID
	long := strings.Repeat("é", outbox.MaxErrorBytes)
	var want outbox.Task // Task.Fail says what is kept
	for n := 1; n <= outbox.MaxFailures+3; n++ {
		f := outbox.Failure{At: time.Now(), Attempt: n, Error: fmt.Sprint(n, long)}
		want.Fail(f)
		c.settle([]outbox.Task{c.one("claim", "a")}, outbox.Outcome{Verdict: outbox.Retry, Failure: f})
	}
	for range 2 {
		got := c.find(id)
		equal(c, "Attempts", got.Attempts, outbox.MaxFailures+3)
		equal(c, "failures kept", len(got.Failures), outbox.MaxFailures)
		for i, f := range got.Failures {
			equal(c, "the attempt of a failure", f.Attempt, i+4)
			equal(c, "the text is cut", len(f.Error) <= outbox.MaxErrorBytes, true)
			equal(c, "the failure is as Task.Fail keeps it", sameFailure(f, want.Failures[i]), true)
		}
		c.reopen()
	}
}
