package storetest

import (
	"strings"

	"github.com/goutbox/goutbox/outbox"
)

var matchRules = []rule{
	{55, "Match", "Claim takes only tasks whose names match; what is left out stands in nobody's way, whatever its class and due time, and waits for others.", match},
	{56, "Match and keys", "P4: a task that does not match stands in the way of those behind it in its Key, and of no others.", matchKeys},
}

// matching claims what begins with a prefix.
func (c *trial) matching(prefix string, most int) []outbox.Task {
	c.Helper()
	got := c.claimed(outbox.ClaimRequest{Max: most, Lease: aWhile, Match: func(name string) bool { return strings.HasPrefix(name, prefix) }})
	for _, t := range got.Tasks {
		if !strings.HasPrefix(t.Name, prefix) {
			c.Errorf("claim of %s*: got %s", prefix, t.Name)
		}
	}
	if len(got.Tasks) == 0 && got.NextIn == 0 {
		c.Errorf("claim of %s*: nothing, but NextIn says that there is more", prefix)
	}
	return got.Tasks
}

func match(c *trial) {
	c.create(task("a1"), task("a2", class(outbox.High)), task("b1"), task("a3"))
	c.create(task("b2", class(outbox.Low)), task("b3"), task("a4"), task("c", delay(ages)))
	c.named("claim of z*", c.matching("z", many), "")
	c.named("claim of c*", c.matching("c", many), "")
	c.named("claim of b*", c.matching("b", many), "b1 b3 b2")
	c.named("claim of b* again", c.matching("b", many), "")
	c.reopen()
	rest := append(c.matching("a", 1), c.matching("a", many)...)
	c.namedAnyhow("claims of a*", rest, "a1 a2 a3 a4")
	for _, t := range rest {
		switch t.Name {
		case "a1":
			c.release(0, t)
		case "a3":
			c.retry(0, t)
		}
	}
	c.settled()
	c.named("claim of b* once more", c.matching("b2", 2), map[bool]string{true: "b2"}[c.h.Reopen != nil])
	c.namedAnyhow("a* that came back", append(c.matching("a", many), c.matching("a", many)...), "a1 a3")
}

func matchKeys(c *trial) {
	c.create(task("a1", key("k")), task("b1", key("k")), task("b2", key("other")), task("b3"))
	c.namedAnyhow("claim of b*", c.matching("b", many), "b2 b3")
	got := c.matching("a", many)
	c.named("claim of a*", got, "a1")
	c.named("claim of b* while the head flies", c.matching("b", many), "")
	c.done(got...)
	c.named("claim of b* when the head is gone", c.matching("b", many), "b1")
}
