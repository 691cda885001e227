package storetest

import (
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// contentRules are about what a task carries.
var contentRules = []rule{
	{1, "what goes in comes out", "Create fills in ID, CreatedAt, DueAt and ExpiresAt, decides State and Token, and keeps all else as it was given, attempts and history too.", inAndOut},
	{6, "nothing is shared", "The store shares no memory with its callers: neither what they handed in, nor what they got, may change what it holds.", nothingShared},
	{7, "odd sizes and bytes", "Empty and large payloads, headers, the longest names and keys, and bytes that are no UTF-8 are all carried verbatim.", oddSizes},
}

func inAndOut(c *trial) {
	in := task("order.created", key("customer 7"), unique("u"), latest("l"), ttl(ages))
	in.Headers = map[string]string{"trace": "abc", "empty": ""}
	in.MaxAttempts, in.Attempts = 7, 2
	in.Failures = []outbox.Failure{
		{At: time.Now().Add(-ages), Attempt: 1, Error: "no"},
		{At: time.Now().Add(-aWhile), Attempt: 2, Error: "still no"},
	}
	in.State, in.Token, in.Reason = outbox.Dead, 99, outbox.ReasonPermanent // the store's to say

	before := time.Now()
	made := c.create(in)[0]
	after := time.Now()
	if made.ID.IsZero() {
		c.Errorf("create has assigned no ID")
	}
	if made.CreatedAt.Before(before.Add(-time.Millisecond)) || made.CreatedAt.After(after.Add(time.Millisecond)) {
		c.Errorf("CreatedAt: got %v, want the wall clock, %v to %v", made.CreatedAt, before, after)
	}
	if d := made.ExpiresAt.Sub(made.DueAt) - ages; d.Abs() > time.Second {
		c.Errorf("ExpiresAt: got %v after DueAt, want the TTL, %v", ages+d, ages)
	}
	equal(c, "State after create", made.State, outbox.Waiting)
	equal(c, "Token after create", made.Token, 0)

	want := made
	want.Reason = ""
	listed := c.find(made.ID)
	c.same("listed", listed, want)
	equal(c, "State as listed", listed.State, outbox.Waiting)
	if !listed.DueAt.Equal(made.DueAt) || !listed.ExpiresAt.Equal(made.ExpiresAt) {
		c.Errorf("listed: due %v, expires %v; create said %v, %v", listed.DueAt, listed.ExpiresAt, made.DueAt, made.ExpiresAt)
	}
	got := c.one("claim", in.Name)
	c.same("claimed", got, want)
	equal(c, "Attempt after 2 spent elsewhere", got.Attempt, 3)
}

func nothingShared(c *trial) {
	in := task("a")
	in.Headers = map[string]string{"h": "as given"}
	in.Failures = []outbox.Failure{{Attempt: 1, Error: "as given"}}
	in.Payload = []byte("as given")
	want := c.create(in)[0]
	want.Headers = map[string]string{"h": "as given"}
	want.Failures = []outbox.Failure{{Attempt: 1, Error: "as given"}}
	want.Payload = []byte("as given")

	scribble := func(t outbox.Task) {
		t.Payload[0], t.Failures[0].Error = '!', "!"
		t.Headers["h"], t.Headers["more"] = "!", "!"
	}
	scribble(in) // shares its slices and map with what create was given
	c.same("after a change to what was handed in", c.find(want.ID), want)
	scribble(c.find(want.ID))
	c.same("after a change to what was listed", c.find(want.ID), want)
	got := c.one("claim", "a")
	c.same("claimed", got, want)
	scribble(got)
	c.release(0, got)
	c.same("after a change to what was claimed", c.one("second claim", "a"), want)
}

func oddSizes(c *trial) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	big := []byte(strings.Repeat("0123456789abcdef", 64<<10)) // 1 MiB
	odd := []outbox.Task{
		task("nil payload", payload(nil)),
		task("empty payload", payload([]byte{})),
		task("one byte", payload([]byte{0})),
		task("all bytes", payload(all)),
		task("big", payload(big)),
		task("заказ.создан ✓ 注文"),
		task(strings.Repeat("n", outbox.MaxNameBytes)),
		task("long keys", key(strings.Repeat("k", outbox.MaxKeyBytes)), unique(strings.Repeat("u", outbox.MaxKeyBytes)), latest(strings.Repeat("l", outbox.MaxKeyBytes))),
		task("any bytes as keys", key(string(all)), unique("\xff\x00"), latest("\x00\xff")),
		task("a", key(" "), unique("\n")),
	}
	odd[0].Headers = map[string]string{"заголовок": "значение", "empty": "", "binary": "\x00\xff"}
	odd[1].Headers = map[string]string{"big": strings.Repeat("h", outbox.MaxHeaders-3)}
	odd[2].ContentType = ""
	made := c.create(odd...)
	c.reopen()
	for i, t := range c.list(outbox.Filter{}) {
		c.same("listed", t, made[i])
	}
	got := c.claim(many)
	equal(c, "tasks claimed", len(got), len(made))
	for _, t := range got {
		for _, m := range made {
			if m.ID == t.ID {
				c.same("claimed", t, m)
			}
		}
	}
}
