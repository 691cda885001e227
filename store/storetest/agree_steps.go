package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// soon is a delay that a later step waits for. Delays are this, none, or ages:
// with others the twins could disagree because one of them is slower.
const soon = 2 * time.Millisecond

// anyDelay picks a delay.
func (w *twins) anyDelay() time.Duration {
	switch n := w.random.IntN(20); {
	case n < 13:
		return 0
	case n < 18:
		return soon
	}
	return ages
}

// later keeps in mind that something short began now at the latest.
func (w *twins) later() { w.dueBy = time.Now().Add(soon) }

// create offers 1 to 4 tasks, some of which must be refused.
func (w *twins) create() {
	if w.late {
		w.claim() // or what is on its way out may still stand before a task with a Lease
	}
	tasks := make([]outbox.Task, 1+w.random.IntN(4))
	same, old := -1, "" // the task that gets an ID which is held, and by which task
	if held := w.some(); len(held) > 0 && w.random.IntN(20) == 0 {
		same, old = w.random.IntN(len(tasks)), held[0]
	}
	for i := range tasks {
		t := task(fmt.Sprint("t", w.offered), delay(w.anyDelay()))
		w.offered++
		t.Name = kinds[w.random.IntN(len(kinds))]
		t.Priority = outbox.Priority(w.random.IntN(3) - 1)
		t.Key = []string{"", "a", "b", "bb", "b\xff"}[w.random.IntN(5)]
		switch n := w.random.IntN(20); {
		case n < 2:
			t.Unique = []string{"u", "uu"}[n]
		case n == 2:
			t.Unique, t.UniqueFor = fmt.Sprint("s", w.offered/8), ages
		case n < 8:
			t.LatestOnly = []string{"l", "ll", "\x00"}[n%3]
		}
		if w.random.IntN(6) == 0 {
			t.KeyPolicy = outbox.ParkWholeKey
		}
		if t.Delay != soon && w.random.IntN(8) == 0 {
			t.Lease = ages // whether what is due soon is due already depends on how long accepting takes
		}
		tasks[i] = t
	}
	w.did("create %s", brief(tasks))
	if same >= 0 {
		w.did("  %s with the ID of %s", called(tasks[same]), old)
	}
	var made []outbox.Task
	result := w.both("results of create", func(s *side) string {
		mine := slices.Clone(tasks)
		if same >= 0 {
			mine[same].ID = s.known[old].ID
		}
		err := s.s.Create(w.ctx, mine)
		if err != nil {
			return kind(err)
		}
		var states []string
		for _, t := range mine {
			s.known[called(t)] = t
			states = append(states, called(t)+" "+t.State.String())
		}
		made = mine
		return strings.Join(states, ", ")
	})
	for _, t := range made {
		if t.State == outbox.InFlight {
			w.flying = append(w.flying, called(t))
		}
	}
	w.later()
	w.did("  created: %s", result)
}

// brief says what was offered.
func brief(tasks []outbox.Task) string {
	var all []string
	for _, t := range tasks {
		all = append(all, fmt.Sprintf("%s(%s %s key %q policy %v unique %q for %v latest %q delay %v lease %v)",
			called(t), t.Priority, t.Name, t.Key, t.KeyPolicy, t.Unique, t.UniqueFor, t.LatestOnly, t.Delay, t.Lease))
	}
	return strings.Join(all, " ")
}

// claim claims all there is, so that the order does not matter.
func (w *twins) claim() { w.claimAll(outbox.ClaimRequest{}) }

// claimSome claims all there is of some names, from either end.
func (w *twins) claimSome() {
	if w.late {
		w.claim() // or what is on its way out may not match, and stand before what does
	}
	req, what := w.anyRequest()
	w.did("claim of %s:", what)
	w.claimAll(req)
}

func (w *twins) claimAll(req outbox.ClaimRequest) {
	w.wait()
	req.Gaps = w.random.IntN(2) == 0
	w.did("claim, with gaps %v", req.Gaps)
	var claimed []string
	req.Max, req.Lease = many, ages
	w.both("claims", func(s *side) string {
		got, err := s.s.Claim(w.ctx, req)
		if err != nil {
			return kind(err)
		}
		claimed = nil
		var lines []string
		for _, t := range w.withoutGaps(s, got.Tasks) {
			s.known[called(t)] = t
			claimed = append(claimed, called(t))
			lines = append(lines, fmt.Sprint(called(t), " attempt ", t.Attempt, line(t)))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n\t\t")
	})
	slices.Sort(claimed) // both claimed the same, each in its order
	w.flying = append(w.flying, claimed...)
	w.did("  claimed: %v", claimed)
}

// settle settles some of what is in flight, each with any verdict, now and then
// under a wrong token.
func (w *twins) settle() {
	outcomes := map[string]outbox.Outcome{}
	var chosen, left []string
	for _, name := range w.flying {
		if w.random.IntN(2) == 0 {
			left = append(left, name)
			continue
		}
		chosen = append(chosen, name)
		o := outbox.Outcome{Verdict: outbox.Verdict(1 + w.random.IntN(4))}
		switch o.Verdict {
		case outbox.Retry:
			o.Delay = w.anyDelay()
		case outbox.Release:
			o.Delay = min(w.anyDelay(), soon) // a longer one ends with a restart, of the one that has any
		case outbox.Bury:
			o.Reason = outbox.ReasonPermanent
		}
		if w.random.IntN(12) == 0 {
			o.Token = 1 // added to the right one
			left = append(left, name)
		}
		outcomes[name] = o
	}
	w.did("settle %s", tell(chosen, outcomes))
	result := w.both("results of settle", func(s *side) string {
		return kind(w.settleOn(s, chosen, func(name string) outbox.Outcome { return outcomes[name] }))
	})
	w.flying = left
	w.later()
	w.did("  settled: %s", result)
}

// tell says what was settled how.
func tell(names []string, outcomes map[string]outbox.Outcome) string {
	words := map[outbox.Verdict]string{outbox.Done: "done", outbox.Retry: "retry", outbox.Release: "release", outbox.Bury: "bury"}
	var all []string
	for _, name := range names {
		o := outcomes[name]
		text := fmt.Sprint(name, " ", words[o.Verdict], " ", o.Delay)
		if o.Token != 0 {
			text += " (wrong token)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// settleAll settles all that is in flight with one verdict.
func (w *twins) settleAll(v outbox.Verdict) {
	w.did("settle all: %v", w.flying)
	w.both("results of settle", func(s *side) string {
		return kind(w.settleOn(s, w.flying, func(string) outbox.Outcome { return outbox.Outcome{Verdict: v} }))
	})
	w.flying = nil
}

// settleOn settles the named on one side.
func (w *twins) settleOn(s *side, names []string, of func(name string) outbox.Outcome) error {
	var all []outbox.Outcome
	for _, name := range names {
		t, o := s.known[name], of(name)
		wrong := o.Token
		o = outcome(t, o)
		o.Token += wrong << 32
		all = append(all, o)
	}
	return s.s.Settle(w.ctx, all)
}

// some picks up to 3 names of what is there, the dead more often.
func (w *twins) some() (names []string) {
	var listed []string
	for t, err := range w.sides[0].s.Tasks(w.ctx, outbox.Filter{}) {
		if err != nil {
			w.Fatalf("seed %d: list: %v", w.seed, err)
		}
		if listed = append(listed, called(t)); t.State == outbox.Dead {
			listed = append(listed, called(t), called(t))
		}
	}
	for range 1 + w.random.IntN(3) {
		if len(listed) > 0 {
			names = append(names, listed[w.random.IntN(len(listed))])
		}
	}
	return names
}

// ids translates names to what a side calls them.
func (s *side) ids(names []string) []outbox.ID {
	var ids []outbox.ID
	for _, name := range names {
		ids = append(ids, s.known[name].ID)
	}
	return ids
}

func (w *twins) requeue() {
	names := w.some()
	w.did("requeue %v", names)
	result := w.both("results of requeue", func(s *side) string {
		n, err := s.s.Requeue(w.ctx, s.ids(names)...)
		return fmt.Sprint(n, " ", kind(err))
	})
	w.did("  requeued: %s", result)
}

func (w *twins) delete() {
	names := w.some()
	w.did("delete %v", names)
	result := w.both("results of delete", func(s *side) string {
		n, err := s.s.Delete(w.ctx, s.ids(names)...)
		return fmt.Sprint(n, " ", kind(err))
	})
	w.did("  deleted: %s", result)
}
