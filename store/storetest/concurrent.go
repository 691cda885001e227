package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

var concurrentRules = []rule{
	{50, "many at once", "P2, P4: with many producers and many claimers each task is delivered exactly once within its leases, those of a Key one at a time and in the order of their IDs.", manyAtOnce},
	{51, "IDs of many", "P4: each producer sees its own IDs rise, and no two tasks share one.", idsOfMany},
}

// crowd is what manyAtOnce knows of its tasks, seen from outside the store.
type crowd struct {
	*trial

	mu        sync.Mutex // guards the rest
	created   []outbox.ID
	producing int                  // producers that are not done yet
	holder    map[outbox.ID]uint64 // the token under which it is in flight
	busy      map[string]outbox.ID // of a key: the task in flight
	last      map[string]outbox.ID // of a key: the task delivered last
	spent     map[outbox.ID]int    // attempts
	delivered map[outbox.ID]int    // times
	started   time.Time
}

func manyAtOnce(c *trial) {
	const producers, claimers = 4, 4
	w := &crowd{
		trial: c, producing: producers, started: time.Now(),
		holder: map[outbox.ID]uint64{}, busy: map[string]outbox.ID{}, last: map[string]outbox.ID{},
		spent: map[outbox.ID]int{}, delivered: map[outbox.ID]int{},
	}
	var all sync.WaitGroup
	for n := range producers {
		all.Go(func() { w.produce(rand.New(rand.NewPCG(1, uint64(n)))) })
	}
	for n := range claimers {
		all.Go(func() { w.consume(rand.New(rand.NewPCG(2, uint64(n)))) })
	}
	all.Wait()
	for _, id := range w.created {
		equal(c, fmt.Sprintf("deliveries of %s", id), w.delivered[id], 1)
	}
	st := c.stats()
	equal(c, "Accepted", st.Accepted, uint64(len(w.created)))
	equal(c, "Delivered", st.Delivered, uint64(len(w.created)))
	c.none("claim at the end")
}

// produce creates 25 batches of 1 to 4 tasks, most with one of 5 keys.
func (w *crowd) produce(random *rand.Rand) {
	var err error
	for n := 0; n < 25 && err == nil; n++ {
		tasks := make([]outbox.Task, 1+random.IntN(4))
		for i := range tasks {
			tasks[i] = task("a")
			if k := random.IntN(6); k < 5 {
				tasks[i].Key = fmt.Sprint("key ", k)
			}
		}
		err = w.s.Create(w.ctx, tasks)
		w.mu.Lock()
		for _, t := range tasks {
			w.created = append(w.created, t.ID)
		}
		w.mu.Unlock()
	}
	if err != nil {
		w.Errorf("create: %v", err)
	}
	w.mu.Lock()
	w.producing--
	w.mu.Unlock()
}

// consume claims and settles until all is delivered.
func (w *crowd) consume(random *rand.Rand) {
	for !w.over() {
		got, err := w.s.Claim(w.ctx, outbox.ClaimRequest{Max: 1 + random.IntN(8), Lease: aWhile})
		if err != nil {
			w.Errorf("claim: %v", err)
			return
		}
		if len(got.Tasks) == 0 {
			time.Sleep(pause)
			continue
		}
		var outcomes []outbox.Outcome
		for _, t := range got.Tasks {
			w.take(t)
		}
		for _, t := range got.Tasks {
			verdict := []outbox.Verdict{outbox.Done, outbox.Done, outbox.Done, outbox.Retry, outbox.Release}[random.IntN(5)]
			outcomes = append(outcomes, outcome(t, outbox.Outcome{Verdict: verdict}))
			w.giveBack(t, verdict) // before the store knows: from then on others may claim it
		}
		if err := w.s.Settle(w.ctx, outcomes); err != nil {
			w.Errorf("settle: %v", err)
			return
		}
	}
}

// over reports whether there is nothing left to do, or no time.
func (w *crowd) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.started) > 2*patience {
		w.Errorf("after %v %d of %d tasks are delivered", 2*patience, len(w.delivered), len(w.created))
		return true
	}
	return w.Failed() || w.producing == 0 && len(w.delivered) == len(w.created)
}

// take notes a claim, and checks that it could be made.
func (w *crowd) take(t outbox.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if token, taken := w.holder[t.ID]; taken {
		w.Errorf("%s was claimed under token %d while in flight under %d", t.ID, t.Token, token)
	}
	w.holder[t.ID] = t.Token
	if t.Attempt != w.spent[t.ID]+1 {
		w.Errorf("%s: attempt %d after %d were spent", t.ID, t.Attempt, w.spent[t.ID])
	}
	if t.Key == "" {
		return
	}
	if other, taken := w.busy[t.Key]; taken {
		w.Errorf("%s: %s was claimed while %s was in flight", t.Key, t.ID, other)
	}
	w.busy[t.Key] = t.ID
}

// giveBack notes the end of a claim.
func (w *crowd) giveBack(t outbox.Task, verdict outbox.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.holder, t.ID)
	if t.Key != "" {
		delete(w.busy, t.Key)
	}
	switch verdict {
	case outbox.Retry:
		w.spent[t.ID]++
	case outbox.Done:
		w.delivered[t.ID]++
		if t.Key == "" {
			return
		}
		if last := w.last[t.Key]; t.ID.Compare(last) <= 0 {
			w.Errorf("%s: %s was delivered after %s", t.Key, t.ID, last)
		}
		w.last[t.Key] = t.ID
	}
}

func idsOfMany(c *trial) {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex // guards seen
		seen = map[outbox.ID]bool{}
	)
	for range 8 {
		all.Go(func() {
			var last outbox.ID
			for range 10 {
				tasks := []outbox.Task{task("a"), task("a")}
				if err := c.s.Create(c.ctx, tasks); err != nil {
					c.Errorf("create: %v", err)
					return
				}
				mu.Lock()
				for _, t := range tasks {
					if seen[t.ID] || t.ID.Compare(last) <= 0 {
						c.Errorf("ID %s after %s; handed out before: %t", t.ID, last, seen[t.ID])
					}
					seen[t.ID], last = true, t.ID
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, t := range c.list(outbox.Filter{}) {
		delete(seen, t.ID)
	}
	equal(c, "tasks created but not listed", len(seen), 0)
}
