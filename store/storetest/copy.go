package storetest

import (
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var copyRules = []rule{
	{126, "Copy there and back", "P1, P4, P5: outbox.Copy moves all that waits or is dead to another store and back, unchanged and in order; both ledgers stay true, and once more moves nothing.", copied},
}

// filled are tasks in all states in which a store without a publisher has them.
func (c *trial) filled() {
	c.Helper()
	c.dead(task("parks", key("p"), policy(outbox.ParkWholeKey)), task("dead", unique("u"), latest("l")))
	c.create(task("tried", key("k"), class(outbox.High)))
	c.retry(ages, c.one("claim", "tried"))
	c.create(task("parked", key("p")))
	c.none("claim of a parked key")
	rich := task("rich", unique("u"), latest("l"), ttl(2*ages))
	rich.Headers, rich.RetryBase, rich.UniqueFor = map[string]string{"a": "b"}, time.Second, ages
	c.create(task("behind", key("k")), task("late", delay(ages)), rich, task("low", class(outbox.Low)), task("kk", key("kk")), task("kk 2", key("kk")))
	c.retry(0, c.one("claim", "rich"))
	for range 600 { // more than a batch
		c.create(task("plain"))
	}
}

func copied(c *trial) {
	if _, ok := c.s.(outbox.Importer); !ok {
		c.Skipf("the store is no Importer")
	}
	c.filled()
	want, before := c.exports(outbox.Filter{}), c.stats()
	other := c.h.Open(c.t)
	defer other.Close()
	check := func(what string, from, to outbox.Store) {
		c.Helper()
		got, err := outbox.Copy(c.ctx, from, to)
		c.ok(what, err)
		equal(c, what, got, outbox.Copied{Events: uint64(len(want)), Dead: before.Dead})
		mine := c.s
		c.s = to
		defer func() { c.s = mine }()
		moved := c.exports(outbox.Filter{})
		equal(c, what+": listed", len(moved), len(want))
		for i, t := range moved {
			w := want[i]
			c.same(what, t, w)
			equal(c, what+": State of "+w.Name, t.State, w.State)
			if d := w.Delay - t.Delay; d < 0 || d > patience {
				c.Errorf("%s: %v are left until %s is due, %v were before", what, t.Delay, w.Name, w.Delay)
			}
			if d := w.TTL - t.TTL; d < 0 || d > patience {
				c.Errorf("%s: %v are left until %s expires, %v were before", what, t.TTL, w.Name, w.TTL)
			}
		}
		st := c.stats()
		equal(c, what+": Pending", st.Pending, before.Pending)
		equal(c, what+": Dead", st.Dead, before.Dead)
		c.s = from
		equal(c, what+": Pending of the source", c.stats().Pending, 0)
		equal(c, what+": Dead of the source", c.stats().Dead, 0)
		got, err = outbox.Copy(c.ctx, from, to)
		c.ok(what+" again", err)
		equal(c, what+" again", got, outbox.Copied{})
	}
	check("copy there", c.s, other)
	check("copy back", other, c.s)
	st := c.stats()
	equal(c, "Accepted", st.Accepted, before.Accepted+uint64(len(want)))
	equal(c, "Deleted", st.DroppedBy.Deleted, uint64(len(want)))
	c.reopen()
	got := slices.DeleteFunc(c.claim(many), func(t outbox.Task) bool { return t.Name == "plain" })
	c.namedAnyhow("claim of all but the plain", got, "rich low kk")
}
