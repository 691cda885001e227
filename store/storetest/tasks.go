package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var taskRules = []rule{
	{41, "listing", "Tasks lists what the Filter matches, oldest ID first, whatever the state and the due time; the zero Filter lists all.", listing},
	{42, "pages", "Limit and After cut a listing into pages that together hold each task once.", pages},
	{43, "listing while others write", "A task that is there throughout a listing is listed exactly once, whatever becomes of it meanwhile; one that comes or goes at most once.", listingWhileWriting},
	{44, "calls while listing", "The caller may use the store inside the loop, and may leave it early.", callsWhileListing},
}

func listing(c *trial) {
	c.dead(task("dead", key("k")))
	c.create(task("flies", key("k")))
	flies := c.one("claim", "flies")
	made := c.create(task("late", delay(ages)), task("waits", key("k")), task("waits"), task("other", key("kk")))
	in := func(s ...outbox.State) []outbox.State { return s }
	for _, look := range []struct {
		what   string
		filter outbox.Filter
		want   string
	}{
		{"all", outbox.Filter{}, "dead flies late waits waits other"},
		{"waiting", outbox.Filter{States: in(outbox.Waiting)}, "late waits waits other"},
		{"in flight or dead", outbox.Filter{States: in(outbox.InFlight, outbox.Dead)}, "dead flies"},
		{"a name", outbox.Filter{Name: "waits"}, "waits waits"},
		{"the start of a name", outbox.Filter{Name: "wait"}, ""},
		{"a key", outbox.Filter{Key: "k"}, "dead flies waits"},
		{"a key and a state", outbox.Filter{Key: "k", States: in(outbox.Waiting, outbox.Dead)}, "dead waits"},
		{"a reason", outbox.Filter{Reason: outbox.ReasonPermanent}, "dead"},
		{"another reason", outbox.Filter{Reason: outbox.ReasonExhausted}, ""},
		{"an error", outbox.Filter{Error: "refused d"}, "dead"},
		{"another error", outbox.Filter{Error: "refused w"}, ""},
		{"what came before long ago", outbox.Filter{Before: flies.CreatedAt.Add(-ages)}, ""},
		{"what came since long ago", outbox.Filter{Since: flies.CreatedAt.Add(-ages), Before: flies.CreatedAt.Add(ages)}, "dead flies late waits waits other"},
		{"an exact moment", outbox.Filter{Since: flies.CreatedAt, Before: flies.CreatedAt.Add(1), Name: "flies"}, "flies"},
		{"after an ID", outbox.Filter{After: flies.ID}, "late waits waits other"},
		{"after the last", outbox.Filter{After: made[3].ID}, ""},
		{"a limit", outbox.Filter{Limit: 2}, "dead flies"},
		{"a limit above all", outbox.Filter{Limit: 100}, "dead flies late waits waits other"},
		{"all together", outbox.Filter{States: in(outbox.Waiting), Name: "waits", Key: "k", After: made[0].ID, Limit: 5}, "waits"},
	} {
		c.named("list of "+look.what, c.list(look.filter), look.want)
	}
	c.reopen()
	c.named("list after a reopen", c.list(outbox.Filter{}), "dead flies late waits waits other")
	for _, t := range c.list(outbox.Filter{}) {
		equal(c, "Delay, TTL and Lease of "+t.Name, t.Delay+t.TTL+t.Lease, 0)
	}
}

func pages(c *trial) {
	var want []string
	for i := range 25 {
		name := fmt.Sprint("t", i)
		want = append(want, name)
		c.create(task(name))
		switch i % 5 {
		case 0:
			c.bury(c.one("claim", name))
		case 1:
			c.one("claim", name)
		case 2:
			c.retry(ages, c.one("claim", name))
		default:
			c.release(ages, c.one("claim", name))
		}
	}
	for _, size := range []int{1, 7, 25, 100} {
		var got []string
		f := outbox.Filter{Limit: size}
		for page := c.list(f); len(page) > 0; page = c.list(f) {
			if len(page) > size {
				c.Errorf("a page of %d has %d tasks", size, len(page))
			}
			for _, t := range page {
				got = append(got, t.Name)
			}
			f.After = page[len(page)-1].ID
		}
		if !slices.Equal(got, want) {
			c.Errorf("pages of %d: got %v, want %v", size, got, want)
		}
	}
}

func listingWhileWriting(c *trial) {
	stays := map[outbox.ID]string{}
	var tasks []outbox.Task
	for range 40 {
		tasks = append(tasks, task("fixed", delay(ages)), task("moving"))
	}
	for _, t := range c.create(tasks...) {
		stays[t.ID] = t.Name
	}
	var writes atomic.Int64
	var writer sync.WaitGroup
	stop := make(chan struct{}) // closed when enough has been listed
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.stir()
				writes.Add(1)
				time.Sleep(pause) // time stands still in a bubble while anybody works
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	for n := 0; n < 6 || writes.Load() < 20 && !c.Failed(); n++ {
		seen := map[outbox.ID]int{}
		var last outbox.ID
		for t, err := range c.s.Tasks(c.ctx, outbox.Filter{}) {
			c.ok("list", err)
			if t.ID.Compare(last) <= 0 {
				c.Errorf("listing %d: %s comes after %s", n, t.ID, last)
			}
			last = t.ID
			if seen[t.ID]++; len(seen)%20 == 0 {
				time.Sleep(pause) // let the writer in, in the middle of the listing
			}
		}
		for id, name := range stays {
			if seen[id] != 1 {
				c.Errorf("listing %d: a %s task that was there throughout is listed %d times", n, name, seen[id])
			}
		}
	}
}

// stir moves the moving tasks through all states, and makes others come and go. It
// runs beside a listing, in another goroutine, so it must not end the test.
func (c *trial) stir() {
	c.Helper()
	check := func(what string, err error) {
		if err != nil {
			c.Errorf("%s while listing: %v", what, err)
		}
	}
	check("create", c.s.Create(c.ctx, []outbox.Task{task("passing"), task("passing")}))
	got, err := c.s.Claim(c.ctx, outbox.ClaimRequest{Max: 24, Lease: aWhile})
	check("claim", err)
	var outcomes []outbox.Outcome
	var buried []outbox.ID
	for i, t := range got.Tasks {
		o := outbox.Outcome{Verdict: outbox.Done}
		if t.Name == "moving" {
			o.Verdict = []outbox.Verdict{outbox.Retry, outbox.Release, outbox.Bury}[i%3]
		}
		if o.Verdict == outbox.Bury {
			buried = append(buried, t.ID)
		}
		outcomes = append(outcomes, outcome(t, o))
	}
	time.Sleep(pause) // a listing is to see what is in flight, and what is dead
	check("settle", c.s.Settle(c.ctx, outcomes))
	time.Sleep(pause)
	_, err = c.s.Requeue(c.ctx, buried...)
	check("requeue", err)
	tasks := []outbox.Task{task("passing", delay(ages))}
	check("create", c.s.Create(c.ctx, tasks))
	_, err = c.s.Delete(c.ctx, tasks[0].ID)
	check("delete", err)
}

func callsWhileListing(c *trial) {
	c.create(task("a"), task("b"), task("c"), task("d"))
	finished := make(chan string, 1) // the names listed; room for them, so that nobody has to wait
	go func() {
		var seen []outbox.Task
		for t, err := range c.s.Tasks(c.ctx, outbox.Filter{}) {
			if err != nil {
				c.Errorf("list: %v", err)
				break
			}
			seen = append(seen, t)
			if len(seen) > 4 {
				break // a task that came meanwhile
			}
			claimed, err := c.s.Claim(c.ctx, outbox.ClaimRequest{Max: 1, Lease: aWhile})
			if err != nil || len(claimed.Tasks) != 1 {
				c.Errorf("claim inside a listing: %v, %v", claimed.Tasks, err)
				break
			}
			err = c.s.Settle(c.ctx, []outbox.Outcome{outcome(claimed.Tasks[0], outbox.Outcome{Verdict: outbox.Retry, Delay: ages})})
			if err == nil {
				err = c.s.Create(c.ctx, []outbox.Task{task("new", delay(ages))})
			}
			if err == nil {
				_, err = c.s.Stats(c.ctx)
			}
			for _, e := range c.s.Tasks(c.ctx, outbox.Filter{Limit: 1}) {
				err = e
			}
			if err != nil {
				c.Errorf("a call inside a listing: %v", err)
			}
		}
		finished <- names(seen[:min(4, len(seen))])
	}()
	select {
	case got := <-finished:
		equal(c, "listed", got, "a b c d")
	case <-time.After(patience):
		c.Fatalf("a call inside a listing has not come back after %v", patience)
	}
	for range c.s.Tasks(c.ctx, outbox.Filter{}) {
		break
	}
	equal(c, "tasks at the end", len(c.list(outbox.Filter{})), 8)
}
