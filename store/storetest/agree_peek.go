package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// kinds are the names of events; what a task is called is its payload.
var kinds = []string{"a", "b", "b.c", "d"}

func called(t outbox.Task) string { return string(t.Payload) }

// anyRequest chooses what to match, and from which end.
func (w *twins) anyRequest() (outbox.ClaimRequest, string) {
	req := outbox.ClaimRequest{Newest: w.random.IntN(2) == 0}
	var chosen []string
	for _, kind := range kinds {
		if w.random.IntN(2) == 0 {
			chosen = append(chosen, kind)
		}
	}
	if len(chosen) == 0 {
		chosen = kinds
	} else {
		req.Match = func(name string) bool { return slices.Contains(chosen, name) }
	}
	return req, fmt.Sprint(chosen, " newest ", req.Newest)
}

// peek has each side claim a few, looks whether these are the first ones of that side,
// and puts them back. The sides need not agree on the order: theirs are not the same
// times.
func (w *twins) peek() {
	if w.parking() { // how many die in a claim of a few depends on the order
		w.claim()
		return
	}
	w.wait()
	req, what := w.anyRequest()
	req.Max, req.Lease = 1+w.random.IntN(6), ages
	w.did("a look at %d of %s", req.Max, what)
	for _, s := range w.sides {
		waiting := w.plain(s, req)
		got, err := s.s.Claim(w.ctx, req)
		if err != nil {
			w.Fatalf("seed %d, step %d: %s: claim: %v", w.seed, w.steps, s.name, err)
		}
		w.inOrder(s, req, waiting, got.Tasks)
		var names []string
		for _, t := range got.Tasks {
			s.known[called(t)] = t
			names = append(names, called(t))
		}
		if err := w.settleOn(s, names, func(string) outbox.Outcome { return outbox.Outcome{Verdict: outbox.Release} }); err != nil {
			w.Fatalf("seed %d, step %d: %s: release: %v", w.seed, w.steps, s.name, err)
		}
	}
	w.later()
}

// parking reports whether something waits whose key is parked.
func (w *twins) parking() bool {
	parked := map[string]bool{}
	for t, err := range w.sides[0].s.Tasks(w.ctx, outbox.Filter{}) {
		if err != nil {
			w.Fatalf("seed %d, step %d: list: %v", w.seed, w.steps, err)
		}
		if t.State == outbox.Waiting && parked[t.Key] {
			return true
		}
		parked[t.Key] = parked[t.Key] || t.ParksKey()
	}
	return false
}

// plain lists what waits, is due and matches, and has no key for which it may have to
// wait or be dropped.
func (w *twins) plain(s *side, req outbox.ClaimRequest) (tasks []outbox.Task) {
	for t, err := range s.s.Tasks(w.ctx, outbox.Filter{States: []outbox.State{outbox.Waiting}}) {
		if err != nil {
			w.Fatalf("seed %d, step %d: %s: list: %v", w.seed, w.steps, s.name, err)
		}
		if t.Key+t.LatestOnly == "" && (req.Match == nil || req.Match(t.Name)) && time.Until(t.DueAt) < ages/2 {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// inOrder checks that what was claimed of each class are the first of what waited.
func (w *twins) inOrder(s *side, req outbox.ClaimRequest, waiting, got []outbox.Task) {
	w.Helper()
	compare := func(a, b outbox.Task) int {
		if req.Newest {
			a, b = b, a
		}
		return cmp.Or(a.DueAt.Compare(b.DueAt), a.ID.Compare(b.ID))
	}
	slices.SortFunc(waiting, compare)
	for _, t := range got {
		if req.Match != nil && !req.Match(t.Name) {
			w.differ("claims of "+s.name, "only what matches", called(t)+line(t))
		}
		if t.Key+t.LatestOnly != "" {
			continue
		}
		i := slices.IndexFunc(waiting, func(other outbox.Task) bool { return other.Priority == t.Priority })
		if i < 0 || waiting[i].ID != t.ID {
			want := "nothing more"
			if i >= 0 {
				want = called(waiting[i]) + line(waiting[i])
			}
			w.differ("order of claims of "+s.name, want, called(t)+line(t))
		}
		waiting = slices.Delete(waiting, i, i+1)
	}
	if len(got) < req.Max && len(waiting) > 0 {
		w.differ("number of claims of "+s.name, called(waiting[0])+line(waiting[0]), "nothing more")
	}
}
