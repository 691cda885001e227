package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/goutbox/goutbox/outbox"
)

// Harness says how to get at the store under test. Open is needed, the rest
// depends on what the store can do.
type Harness struct {
	// Open returns a fresh, empty store. Run closes it.
	Open func(t *testing.T) outbox.Store

	// Reopen closes s and opens the same data again. Nil for a store that keeps
	// nothing; the rules about restarts are skipped then.
	Reopen func(t *testing.T, s outbox.Store) outbox.Store

	// Tx runs f with a context that carries a transaction which s can join, and
	// then commits it. Nil for a store that can join none; it must refuse with
	// outbox.ErrTxUnsupported.
	Tx func(t *testing.T, s outbox.Store, f func(ctx context.Context))

	// Settled returns when all settles so far are durable. It is called before
	// Reopen, so that Reopen may be a crash. Nil when there is nothing to wait for.
	Settled func(t *testing.T, s outbox.Store)

	// Audit has the store check itself, if it can. It is called when a rule has ended,
	// again after the reopen that follows, and by Agree after each restart. Nil when
	// there is no more to check than what the law lets one see.
	Audit func(t *testing.T, s outbox.Store)

	// Around runs each rule, from Open to Close. It is there for synctest.Test,
	// which cannot be around Run itself: a bubble has no subtests. Nil runs the
	// rule as it is.
	Around func(t *testing.T, rule func(t *testing.T))
}

// Run checks every rule, each in a subtest with a store of its own.
func Run(t *testing.T, h Harness) {
	for _, r := range rules() {
		t.Run(r.String(), func(t *testing.T) {
			h.around(t, func(t *testing.T) { r.run(t, t, h) })
		})
	}
}

func (h Harness) around(t *testing.T, f func(t *testing.T)) {
	if h.Around == nil {
		f(t)
		return
	}
	h.Around(t, f)
}

// rule is one sentence of the law and the code that looks whether a store obeys.
type rule struct {
	number int
	name   string
	law    string
	check  func(c *trial)
}

// String is the name of the rule's subtest: "C07 odd sizes and bytes".
func (r rule) String() string { return fmt.Sprintf("C%02d %s", r.number, r.name) }

// rules returns the whole law, by number. A new rule stands in the file of its
// step and gets the next free number.
func rules() []rule {
	return slices.SortedFunc(slices.Values(slices.Concat(
		createRules, contentRules, claimRules, keyRules, settleRules, requeueRules, deleteRules,
		uniqueRules, latestRules, expireRules, taskRules, statsRules, lifeRules, concurrentRules, priorityRules, matchRules, newestRules,
		parkRules, uniqueForRules, gapRules, exportRules, importRules, copyRules, nameRules, watchRules,
	)), func(a, b rule) int { return a.number - b.number })
}

// run tries the rule on a store. What it finds goes to rep; t is for the harness.
func (r rule) run(t *testing.T, rep reporter, h Harness) {
	rep.Helper()
	c := &trial{reporter: rep, t: t, h: h, ctx: t.Context(), s: h.Open(t)}
	defer func() {
		c.finish()
		if c.Failed() {
			c.Logf("%s: %s", r, r.law)
		}
	}()
	r.check(c)
}
