package storetest

import (
	"sync"

	"github.com/goutbox/goutbox/outbox"
)

var watchRules = []rule{
	{130, "what a Watcher tells", "A Watcher tells how many tasks were dropped, and of how many the store has made dead letters by itself, by reason and each once, until stopped; what Settle buries it does not tell.", watched},
}

func watched(c *trial) {
	w, ok := c.s.(outbox.Watcher)
	if !ok {
		c.Skipf("the store is no outbox.Watcher")
	}
	var mu sync.Mutex // guards the rest
	told := map[outbox.Reason]uint64{}
	count := func(r outbox.Reason, n uint64) {
		mu.Lock()
		defer mu.Unlock()
		told[r] += n
	}
	stop := w.Watch(outbox.Watch{Dropped: count, Buried: count})
	w.Watch(outbox.Watch{}) // wants to hear of nothing
	tells := func(what string, r outbox.Reason, n uint64) {
		c.Helper()
		c.await(what, func() bool { mu.Lock(); defer mu.Unlock(); return told[r] >= n })
	}
	c.create(whole("1", "k"), task("2", key("k")), task("3", key("k")))
	c.bury(c.one("claim", "1"))
	c.none("claim of a parked key")
	tells("a notice of two that died of a parked key", outbox.ReasonKeyParked, 2)
	dropped := c.create(task("4", key("k")), task("old", latest("l")), task("deleted"))[2]
	c.create(task("new", latest("l")))
	tells("a notice of one that was replaced", outbox.ReasonCoalesced, 1)
	_, err := c.s.Delete(c.ctx, dropped.ID)
	c.ok("delete", err)
	tells("a notice of one that was deleted", outbox.ReasonDeleted, 1)
	c.expire(task("mortal"))
	c.done(c.one("claim", "new"))
	c.none("claim")
	tells("a notice of one that has expired", outbox.ReasonExpired, 1)
	tells("a notice of a third that died of a parked key", outbox.ReasonKeyParked, 3)

	stop()
	c.create(task("5", key("k")))
	c.none("claim of a parked key")
	c.settled()
	c.pass(2 * pause)
	mu.Lock()
	defer mu.Unlock()
	for r, n := range map[outbox.Reason]uint64{
		outbox.ReasonKeyParked: 3, outbox.ReasonCoalesced: 1, outbox.ReasonDeleted: 1, outbox.ReasonExpired: 1, outbox.ReasonPermanent: 0,
	} {
		equal(c, "told of "+string(r), told[r], n)
	}
}
