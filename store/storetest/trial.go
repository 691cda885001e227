package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

const (
	patience = 10 * time.Second // for what must happen, but not at once
	pause    = time.Millisecond // between two looks, at first
	aWhile   = time.Minute      // a lease that does not end during a rule
	ages     = time.Hour        // a delay that does not pass during a rule
)

// reporter is what a rule needs of *testing.T. The suite's own tests put a
// recorder here, to see rules fail that must fail.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
}

// trial is one rule, tried on one store.
type trial struct {
	reporter
	t      *testing.T // for the harness only
	h      Harness
	s      outbox.Store
	ctx    context.Context
	closed bool // the rule has closed the store for good
}

// reopen closes the store and opens its data again, and reports false if the store
// keeps nothing.
func (c *trial) reopen() bool {
	c.Helper()
	if c.h.Reopen == nil {
		return false
	}
	c.settled()
	c.s = c.h.Reopen(c.t, c.s)
	return true
}

// needReopen skips a rule that is about restarts only.
func (c *trial) needReopen() {
	c.Helper()
	if c.h.Reopen == nil {
		c.Skipf("the store keeps nothing: no Reopen in the harness")
	}
}

// settled waits until settles are durable.
func (c *trial) settled() {
	if c.h.Settled != nil {
		c.h.Settled(c.t, c.s)
	}
}

// finish checks the books, also across a reopen, and closes the store. It runs
// after every rule.
func (c *trial) finish() {
	c.Helper()
	if c.closed {
		return
	}
	if !c.Failed() {
		before := c.audit()
		if c.reopen() {
			c.compareBooks(before, c.audit())
		}
	}
	if err := c.s.Close(); err != nil {
		c.Errorf("close: %v", err)
	}
}

// audit checks P5: the counters add up and agree with a recount, and the store with
// itself.
func (c *trial) audit() outbox.Stats {
	c.Helper()
	if c.h.Audit != nil {
		c.h.Audit(c.t, c.s)
	}
	// A lease that ends in between moves a task: look again until nothing moves.
	st := c.stats()
	listed := c.list(outbox.Filter{})
	for again := c.stats(); again != st; again = c.stats() {
		st = again
		listed = c.list(outbox.Filter{})
	}
	if got := st.Delivered + st.Pending + st.InFlight + st.Dead + st.Dropped; got != st.Accepted {
		c.Errorf("P5: accepted %d, but delivered + pending + in flight + dead + dropped = %d: %+v", st.Accepted, got, st)
	}
	if st.Dropped != st.DroppedBy.Total() {
		c.Errorf("P5: Dropped = %d, DroppedBy sums to %d", st.Dropped, st.DroppedBy.Total())
	}
	if by := st.PendingByPriority; by.High+by.Normal+by.Low != st.Pending {
		c.Errorf("Pending = %d, PendingByPriority says %+v", st.Pending, by)
	}
	var count [3]uint64
	for _, t := range listed {
		if int(t.State) >= len(count) {
			c.Fatalf("%s is listed in state %d", t.Name, t.State)
		}
		count[t.State]++
	}
	if want := [3]uint64{st.Pending, st.InFlight, st.Dead}; count != want {
		c.Errorf("P5: waiting, in flight, dead: %v are listed, Stats says %v", count, want)
	}
	return st
}

// compareBooks compares the counters across a reopen: what was in flight waits
// again, or is dropped if a newer LatestOnly task had replaced it.
func (c *trial) compareBooks(before, after outbox.Stats) {
	c.Helper()
	if after.InFlight != 0 {
		c.Errorf("after a reopen %d tasks are in flight", after.InFlight)
	}
	type kept struct{ accepted, delivered, dead, requeued, waitingOrDropped uint64 }
	books := func(st outbox.Stats) kept {
		return kept{st.Accepted, st.Delivered, st.Dead, st.Requeued, st.Pending + st.InFlight + st.Dropped}
	}
	if b, a := books(before), books(after); a != b || after.Dropped < before.Dropped {
		c.Errorf("P5: a reopen changed the books:\n\tbefore %+v\n\tafter  %+v", before, after)
	}
}

// await looks until f is true.
func (c *trial) await(what string, f func() bool) {
	c.Helper()
	start := time.Now()
	for wait := pause; !f(); wait = min(2*wait, 16*pause) {
		if time.Since(start) > patience {
			c.Fatalf("still not after %v: %s", patience, what)
		}
		time.Sleep(wait)
	}
}

// pass waits until d has passed on the store's clock as well.
func (c *trial) pass(d time.Duration) { time.Sleep(d + pause) }

// fails checks that an error is the one that callers branch on.
func (c *trial) fails(what string, err, want error) {
	c.Helper()
	if !errors.Is(err, want) {
		c.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// ok checks that there is no error.
func (c *trial) ok(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

// equal compares numbers, flags, texts and the like.
func equal[T comparable](c *trial, what string, got, want T) {
	c.Helper()
	if got != want {
		c.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// named checks which tasks these are, in order; want is their names with a blank
// between each two.
func (c *trial) named(what string, tasks []outbox.Task, want string) {
	c.Helper()
	if got := names(tasks); got != want {
		c.Fatalf("%s: got [%s], want [%s]", what, got, want)
	}
}

// namedAnyhow is named for when the order is not promised.
func (c *trial) namedAnyhow(what string, tasks []outbox.Task, want string) {
	c.Helper()
	words := strings.Fields(want)
	slices.Sort(words)
	got := strings.Fields(names(tasks))
	slices.Sort(got)
	if !slices.Equal(got, words) {
		c.Fatalf("%s: got %v, want %v", what, got, words)
	}
}

func names(tasks []outbox.Task) string {
	all := make([]string, len(tasks))
	for i, t := range tasks {
		all[i] = t.Name
	}
	return strings.Join(all, " ")
}
