package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Agree has two stores do the same random things, steps of them, and compares
// after each what is to be seen: errors, claims, listings, counters. The oracle is
// a store that is known to be right, such as store/mem; the subject is the one
// under test. Both are opened and closed by Agree; Around of the subject is
// around both.
//
// The same seed does the same things. A failure says the seed and the last steps.
//
// What the law leaves open is not compared: IDs and times, in what order due tasks
// are claimed that became due at nearly the same moment, when a task is
// dropped that was replaced while in flight, and how many gaps tell of what has expired.
// All that has expired must be told in the end.
func Agree(t *testing.T, seed uint64, steps int, oracle, subject Harness) {
	t.Helper()
	subject.around(t, func(t *testing.T) { agree(t, t, seed, steps, oracle, subject) })
}

// twins are two stores that live the same life.
type twins struct {
	reporter
	ctx     context.Context
	random  *rand.Rand
	sides   [2]*side        // oracle, subject
	offered int             // tasks offered so far; the n-th is called "tn", which is its payload
	flying  []string        // in flight, on both sides
	dueBy   time.Time       // all short delays have passed by then
	late    bool            // the subject still holds replaced tasks, until its next Claim
	parcels [][]outbox.Task // imported so far
	steps   int             // done so far
	story   []string        // what was done, a line each
	seed    uint64
}

// side is one of the twins. IDs and tokens differ between them, names do not.
type side struct {
	name  string
	h     Harness
	t     *testing.T
	s     outbox.Store
	known map[string]outbox.Task // by name: as created or as last claimed
	gaps  uint64                 // delivered,
	told  uint64                 // and of how many tasks they have told
}

func agree(t *testing.T, rep reporter, seed uint64, steps int, oracle, subject Harness) {
	w := &twins{reporter: rep, ctx: t.Context(), random: rand.New(rand.NewPCG(seed, seed)), seed: seed}
	for i, h := range []Harness{oracle, subject} {
		w.sides[i] = &side{
			name: []string{"oracle", "subject"}[i], h: h, t: t, s: h.Open(t), known: map[string]outbox.Task{},
		}
	}
	defer func() {
		for _, s := range w.sides {
			if err := s.s.Close(); err != nil {
				w.Errorf("%s: close: %v", s.name, err)
			}
		}
	}()
	for range steps {
		w.steps++
		w.step()
		w.compare(true)
	}
	w.restart()
	for w.claim(); len(w.flying) > 0; w.claim() {
		w.settleAll(outbox.Done)
		w.compare(true)
	}
	w.compare(false)
	w.tellAll()
	for _, s := range w.sides {
		s.audit()
	}
}

// audit has the side check itself.
func (s *side) audit() {
	if s.h.Audit != nil {
		s.h.Audit(s.t, s.s)
	}
}

// step does one random thing.
func (w *twins) step() {
	switch n := w.random.IntN(100); {
	case n < 26:
		w.create()
	case n < 31:
		w.imports()
	case n < 35:
		w.expire()
	case n < 45:
		w.claim()
	case n < 52:
		w.claimSome()
	case n < 60:
		w.peek()
	case n < 85:
		w.settle()
	case n < 91:
		w.requeue()
	case n < 96:
		w.delete()
	default:
		w.restart()
	}
}

// did notes a step, for the report.
func (w *twins) did(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

// both does the same on both sides, and compares what came of it.
func (w *twins) both(what string, f func(s *side) string) string {
	w.Helper()
	var results [2]string
	for i, s := range w.sides {
		results[i] = f(s)
	}
	if results[0] != results[1] {
		w.differ(what, results[0], results[1])
	}
	return results[0]
}

// differ reports the first difference.
func (w *twins) differ(what, oracle, subject string) {
	w.Helper()
	last := w.story[max(0, len(w.story)-40):]
	w.Fatalf("seed %d, step %d: %s differ:\n\toracle  %s\n\tsubject %s\nlast steps:\n\t%s",
		w.seed, w.steps, what, oracle, subject, strings.Join(last, "\n\t"))
}

// kind is what callers branch on in an error.
func kind(err error) string {
	var kinds []string
	for _, k := range []error{
		outbox.ErrDuplicate, outbox.ErrNotFound, outbox.ErrInFlight, outbox.ErrLeaseLost,
	} {
		if errors.Is(err, k) {
			kinds = append(kinds, k.Error())
		}
	}
	if err != nil && len(kinds) == 0 {
		return err.Error()
	}
	return fmt.Sprint(kinds)
}

// wait returns when all short delays have passed on both sides.
func (w *twins) wait() { time.Sleep(time.Until(w.dueBy) + pause) }

// restart reopens the sides that can be, and has the others do what a restart
// does: what is in flight waits again, at once.
func (w *twins) restart() {
	w.did("restart")
	for _, s := range w.sides {
		if s.h.Reopen == nil {
			w.settleOn(s, w.flying, func(string) outbox.Outcome { return outbox.Outcome{Verdict: outbox.Release} })
			continue
		}
		if s.h.Settled != nil {
			s.h.Settled(s.t, s.s)
		}
		s.s = s.h.Reopen(s.t, s.s)
		s.audit()
	}
	w.flying = nil
}

// compare compares all that can be seen. A task that the subject lists but the
// oracle has dropped as replaced may be on its way out, if that is allowed here, or if
// another of its key stands before it, so that no claim comes upon it: the Claim that does
// must drop it, or it shows as a claim of one side only.
func (w *twins) compare(allowLate bool) {
	w.Helper()
	var lists [2]map[string]string
	var orders [2][]string
	var stats [2]outbox.Stats
	for i, s := range w.sides {
		lists[i], orders[i] = w.list(s)
		st, err := s.s.Stats(w.ctx)
		if err != nil {
			w.Fatalf("seed %d, step %d: %s: stats: %v", w.seed, w.steps, s.name, err)
		}
		stats[i] = outbox.Stats{
			Accepted: st.Accepted - s.gaps, Delivered: st.Delivered - s.gaps, Pending: st.Pending, InFlight: st.InFlight,
			PendingByPriority: st.PendingByPriority, Dead: st.Dead, Dropped: st.Dropped, DroppedBy: st.DroppedBy, Requeued: st.Requeued,
		}
	}
	w.late = false
	waits := func(name string) bool { return strings.HasPrefix(lists[1][name], outbox.Waiting.String()) }
	heads := map[string]string{}
	for _, name := range slices.Backward(orders[1]) {
		if waits(name) {
			heads[w.sides[1].known[name].Key] = name
		}
	}
	orders[1] = slices.DeleteFunc(orders[1], func(name string) bool {
		_, both := lists[0][name]
		task := w.sides[1].known[name]
		late := !both && task.LatestOnly != "" && waits(name) && (allowLate || task.Key != "" && heads[task.Key] != name)
		if late {
			w.late = true
			delete(lists[1], name)
			stats[1].Pending--
			stats[1].PendingByPriority.Add(w.sides[1].known[name].Priority, ^uint64(0))
			stats[1].Dropped++
			stats[1].DroppedBy.Coalesced++
		}
		return late
	})
	for _, name := range slices.Sorted(maps.Keys(lists[0])) {
		if lists[0][name] != lists[1][name] {
			w.differ("listings of "+name, lists[0][name], lists[1][name])
		}
	}
	if !slices.Equal(orders[0], orders[1]) {
		w.differ("listings", fmt.Sprint(orders[0]), fmt.Sprint(orders[1]))
	}
	if stats[0] != stats[1] {
		w.differ("counters", fmt.Sprintf("%+v", stats[0]), fmt.Sprintf("%+v", stats[1]))
	}
}

// list returns what a side lists: a line for each name, and the names in order.
func (w *twins) list(s *side) (lines map[string]string, order []string) {
	lines = map[string]string{}
	for t, err := range s.s.Tasks(w.ctx, outbox.Filter{}) {
		if err != nil {
			w.Fatalf("seed %d, step %d: %s: list: %v", w.seed, w.steps, s.name, err)
		}
		lines[called(t)] = t.State.String() + line(t)
		order = append(order, called(t))
	}
	return lines, order
}

// line says of a task what both sides must agree on.
func line(t outbox.Task) string {
	var failures []string
	for _, f := range t.Failures {
		failures = append(failures, fmt.Sprint(f.Attempt, f.Error))
	}
	return fmt.Sprintf(" %s %s key %q unique %q latest %q payload %q attempts %d of %d failures %v reason %q",
		t.Priority, t.Name, t.Key, t.Unique, t.LatestOnly, t.Payload, t.Attempts, t.MaxAttempts, failures, t.Reason)
}
