package storetest

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// many is more than any rule has tasks.
const many = 1 << 20

// task makes a task as package outbox would hand it over; its payload is its name.
func task(name string, with ...func(*outbox.Task)) outbox.Task {
	t := outbox.Task{
		Event:       outbox.Event{Name: name, ContentType: "text/plain", Payload: []byte(name)},
		MaxAttempts: 3,
	}
	for _, f := range with {
		f(&t)
	}
	return t
}

func key(k string) func(*outbox.Task)          { return func(t *outbox.Task) { t.Key = k } }
func unique(k string) func(*outbox.Task)       { return func(t *outbox.Task) { t.Unique = k } }
func latest(k string) func(*outbox.Task)       { return func(t *outbox.Task) { t.LatestOnly = k } }
func delay(d time.Duration) func(*outbox.Task) { return func(t *outbox.Task) { t.Delay = d } }
func ttl(d time.Duration) func(*outbox.Task)   { return func(t *outbox.Task) { t.TTL = d } }
func lease(d time.Duration) func(*outbox.Task) { return func(t *outbox.Task) { t.Lease = d } }
func class(p outbox.Priority) func(*outbox.Task) {
	return func(t *outbox.Task) { t.Priority = p }
}
func payload(b []byte) func(*outbox.Task)    { return func(t *outbox.Task) { t.Payload = b } }
func withID(id outbox.ID) func(*outbox.Task) { return func(t *outbox.Task) { t.ID = id } }

// create has the store accept tasks, in one call, and returns them as filled in.
func (c *trial) create(tasks ...outbox.Task) []outbox.Task {
	c.Helper()
	c.ok("create", c.s.Create(c.ctx, tasks))
	return tasks
}

// claim claims under a lease that does not end during a rule.
func (c *trial) claim(most int) []outbox.Task {
	c.Helper()
	return c.claimed(outbox.ClaimRequest{Max: most, Lease: aWhile}).Tasks
}

// claimed claims, and checks what holds for every claim.
func (c *trial) claimed(req outbox.ClaimRequest) outbox.Claimed {
	c.Helper()
	got, err := c.s.Claim(c.ctx, req)
	c.ok("claim", err)
	if len(got.Tasks) > max(req.Max, 1) {
		c.Errorf("claim: got %d tasks, Max was %d", len(got.Tasks), req.Max)
	}
	if got.NextIn < 0 {
		c.Errorf("claim: NextIn = %v", got.NextIn)
	}
	for _, t := range got.Tasks {
		if t.State != outbox.InFlight || t.Token == 0 || t.Attempt != t.Attempts+1 {
			c.Errorf("claimed %s: state %v, token %d, attempt %d after %d spent; want in flight, a token, one more than spent",
				t.Name, t.State, t.Token, t.Attempt, t.Attempts)
		}
		if t.Delay != 0 || t.TTL != 0 || t.Lease != 0 {
			c.Errorf("claimed %s: Delay, TTL, Lease are for Create alone: %v %v %v", t.Name, t.Delay, t.TTL, t.Lease)
		}
	}
	return got
}

// one claims a single task and checks which it is.
func (c *trial) one(what, name string) outbox.Task {
	c.Helper()
	tasks := c.claim(1)
	c.named(what, tasks, name)
	return tasks[0]
}

// none checks that nothing can be claimed.
func (c *trial) none(what string) {
	c.Helper()
	c.named(what, c.claim(many), "")
}

// sole claims until there is something, and checks that it is this one task.
func (c *trial) sole(what, name string) outbox.Task {
	c.Helper()
	var tasks []outbox.Task
	c.await(what, func() bool {
		tasks = c.claim(many)
		return len(tasks) > 0
	})
	c.named(what, tasks, name)
	return tasks[0]
}

// done, retry, release and bury settle claims, each with one verdict.
func (c *trial) done(tasks ...outbox.Task) {
	c.Helper()
	c.settle(tasks, outbox.Outcome{Verdict: outbox.Done})
}

func (c *trial) retry(d time.Duration, tasks ...outbox.Task) {
	c.Helper()
	c.settle(tasks, outbox.Outcome{Verdict: outbox.Retry, Delay: d})
}

func (c *trial) release(d time.Duration, tasks ...outbox.Task) {
	c.Helper()
	c.settle(tasks, outbox.Outcome{Verdict: outbox.Release, Delay: d})
}

func (c *trial) bury(tasks ...outbox.Task) {
	c.Helper()
	c.settle(tasks, outbox.Outcome{Verdict: outbox.Bury, Reason: outbox.ReasonPermanent})
}

func (c *trial) settle(tasks []outbox.Task, o outbox.Outcome) {
	c.Helper()
	var all []outbox.Outcome
	for _, t := range tasks {
		all = append(all, outcome(t, o))
	}
	c.ok("settle", c.s.Settle(c.ctx, all))
}

// outcome is o for the claim of t, with the failure that the verdict needs.
func outcome(t outbox.Task, o outbox.Outcome) outbox.Outcome {
	o.ID, o.Token = t.ID, t.Token
	if (o.Verdict == outbox.Retry || o.Verdict == outbox.Bury) && o.Failure.Error == "" {
		o.Failure = outbox.Failure{At: time.Now(), Attempt: t.Attempt, Error: "refused " + t.Name}
	}
	return o
}

// dead makes dead letters: it creates the tasks and buries them, one after the
// other, while nothing else can be claimed.
func (c *trial) dead(tasks ...outbox.Task) []outbox.Task {
	c.Helper()
	for i, t := range tasks {
		c.create(t)
		got := c.one("the task to bury", t.Name)
		c.bury(got)
		tasks[i] = got
	}
	return tasks
}

// stats asks for the counters.
func (c *trial) stats() outbox.Stats {
	c.Helper()
	st, err := c.s.Stats(c.ctx)
	c.ok("stats", err)
	if st.PendingBytes != 0 && st.Pending+st.InFlight == 0 || st.DeadBytes != 0 && st.Dead == 0 {
		c.Errorf("bytes of nothing: %+v", st)
	}
	st.PendingBytes, st.DeadBytes = 0, 0 // every store has its own way of counting, or does not count
	// These tell of the disk, not of tasks.
	st.Syncs, st.SyncedRecords, st.BytesWritten, st.Checkpoints = 0, 0, 0, 0
	st.SyncLevel = ""
	st.DatabaseBytes, st.LogBytes = 0, 0
	st.LastCheckpoint, st.NoRoom, st.Recovery = time.Time{}, nil, outbox.Recovery{}
	st.OldestPending = st.OldestPending.Round(0).UTC() // so that == compares the time alone
	return st
}

// list lists tasks, and checks that their IDs rise.
func (c *trial) list(f outbox.Filter) []outbox.Task {
	c.Helper()
	var all []outbox.Task
	for t, err := range c.s.Tasks(c.ctx, f) {
		c.ok("list", err)
		if n := len(all); n > 0 && t.ID.Compare(all[n-1].ID) <= 0 {
			c.Errorf("list: %s %s comes after %s %s", t.Name, t.ID, all[n-1].Name, all[n-1].ID)
		}
		all = append(all, t)
	}
	return all
}

// find returns the task as it is listed.
func (c *trial) find(id outbox.ID) outbox.Task {
	c.Helper()
	for _, t := range c.list(outbox.Filter{}) {
		if t.ID == id {
			return t
		}
	}
	c.Fatalf("%s is not listed", id)
	return outbox.Task{}
}

// same compares what a store must give back as it was given. Schedule, state and
// claim are each rule's own.
func (c *trial) same(what string, got, want outbox.Task) {
	c.Helper()
	wanted := want.Name
	field := func(name string, ok bool, got, want any) {
		c.Helper()
		if !ok {
			c.Errorf("%s: %s of %.40s: got %.80q, want %.80q", what, name, wanted, got, want)
		}
	}
	field("ID", got.ID == want.ID, got.ID, want.ID)
	field("Name", got.Name == want.Name, got.Name, want.Name)
	field("Key", got.Key == want.Key, got.Key, want.Key)
	field("Headers", maps.Equal(got.Headers, want.Headers), got.Headers, want.Headers)
	field("ContentType", got.ContentType == want.ContentType, got.ContentType, want.ContentType)
	field("Payload", bytes.Equal(got.Payload, want.Payload), got.Payload, want.Payload)
	field("CreatedAt", got.CreatedAt.Equal(want.CreatedAt), got.CreatedAt.String(), want.CreatedAt.String())
	field("Unique", got.Unique == want.Unique, got.Unique, want.Unique)
	field("LatestOnly", got.LatestOnly == want.LatestOnly, got.LatestOnly, want.LatestOnly)
	equal(c, what+": MaxAttempts of "+want.Name, got.MaxAttempts, want.MaxAttempts)
	equal(c, what+": Attempts of "+want.Name, got.Attempts, want.Attempts)
	equal(c, what+": Reason of "+want.Name, got.Reason, want.Reason)
	equal(c, what+": that it expires, of "+want.Name, !got.ExpiresAt.IsZero(), !want.ExpiresAt.IsZero())
	if !slices.EqualFunc(got.Failures, want.Failures, sameFailure) {
		c.Errorf("%s: history of %s:\n\tgot  %v\n\twant %v", what, want.Name, got.Failures, want.Failures)
	}
}

// sameFailure compares failures, their time by the millisecond.
func sameFailure(a, b outbox.Failure) bool {
	return a.Attempt == b.Attempt && a.Error == b.Error && a.At.Sub(b.At).Abs() < time.Millisecond
}
