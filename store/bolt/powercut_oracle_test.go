//go:build linux

package bolt_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// This file knows what must, what may and what must not be there. It follows from
// what the program said of itself (fact), and from one property of the log: what
// is found after a crash is what the program had after some prefix of its records.
// What was acknowledged is in every such prefix, what was not begun in none. Events
// accepted in a transaction are apart from that: they are there exactly when the
// application's own entry is, that was written with them.

// fact is what the program says before and after each thing it does.
type fact struct {
	Do    string        // before: what follows; after: "ok" or "refused"
	Tasks []factTask    `json:",omitempty"` // create, update: what is accepted; opened: what was found
	Ends  []factOutcome `json:",omitempty"` // settle
	Name  string        `json:",omitempty"` // requeue, delete: of which task; update: the application's entry
	Apps  []string      `json:",omitempty"` // opened: the application's entries
	Stats *outbox.Stats `json:",omitempty"` // opened
	Last  outbox.ID     // ok of create and update: the last ID
}

// The things that are done. A barrier makes durable whatever was in the log before
// it: sync, checkpoint, recycling, close.
const (
	doCreate  = "create"
	doUpdate  = "update"
	doSettle  = "settle"
	doRequeue = "requeue"
	doDelete  = "delete"
	doBarrier = "barrier"
	doOpened  = "opened"  // recovery is over, and has found this
	doRecover = "recover" // of the child that only recovers: it begins with the next folder
	doOK      = "ok"
	doRefused = "refused"
)

type factTask struct {
	Name, Key, Unique, Latest string
	ID                        outbox.ID
	Payload                   int
	Attempts                  int
	Failures                  int
	Dead                      bool
	Reason                    outbox.Reason
	Damaged                   bool // the payload is not what its name says
}

type factOutcome struct {
	Name    string
	Verdict outbox.Verdict
	Reason  outbox.Reason
}

// inventory is what somebody saw in an open store.
type inventory struct {
	tasks []factTask // in the order of the listing
	apps  []string
	stats outbox.Stats
}

// want is a state that a store may have.
type want struct {
	tasks map[string]wanted
	apps  map[string]bool
	seq   int

	accepted, delivered, coalesced, deleted, requeued uint64
}

type wanted struct {
	factTask
	seq   int  // in the order of acceptance
	stale bool // a newer task has its LatestOnly key: dropped already, or when it comes back
}

func (w *want) clone() *want {
	c := *w
	c.tasks, c.apps = maps.Clone(w.tasks), maps.Clone(w.apps)
	return &c
}

// step is one change of the state: a record of the log, or a transaction.
type step struct {
	begun   int // event from which on it may be found
	durable int // event from which on it must be
	app     string
	settle  bool // becomes durable with what comes after it
	apply   func(*want)
}

const notYet = math.MaxInt

// epoch is the time between two recoveries, each of which has settled what the
// state was.
type epoch struct {
	from  int
	base  *want
	steps []*step
}

type oracle struct {
	epochs []epoch
	ids    []idAt // acknowledged, rising
}

type idAt struct {
	event int
	id    outbox.ID
}

// newOracle listens to the whole recording.
func newOracle(events []event) (*oracle, error) {
	o := &oracle{epochs: []epoch{{base: &want{tasks: map[string]wanted{}, apps: map[string]bool{}}}}}
	var open []*step // begun by the last fact, and not answered
	for i, e := range events {
		if e.kind != evFact {
			continue
		}
		var f fact
		if err := json.Unmarshal(e.data, &f); err != nil {
			return nil, fmt.Errorf("event %d: fact %s: %w", i, e.data, err)
		}
		ep := &o.epochs[len(o.epochs)-1]
		switch f.Do {
		case doOpened:
			base, why := ep.match(inventory{f.Tasks, f.Apps, *f.Stats}, i)
			if why != "" {
				return nil, fmt.Errorf("event %d: found after a restart: %s", i, why)
			}
			o.epochs = append(o.epochs, epoch{from: i, base: base.settled(f.Tasks)})
			open = nil
		case doRefused: // had no effect, and must not have one later
			ep.steps = ep.steps[:len(ep.steps)-len(open)]
			open = nil
		case doOK:
			o.acknowledge(ep, open, i)
			if f.Last != (outbox.ID{}) {
				o.ids = append(o.ids, idAt{i, f.Last})
			}
			open = nil
		default:
			open = f.steps(i)
			ep.steps = append(ep.steps, open...)
		}
	}
	return o, nil
}

// acknowledge notes that the call which open belongs to has returned at event i.
func (o *oracle) acknowledge(ep *epoch, open []*step, i int) {
	switch {
	case len(open) == 1 && open[0].app != "":
		open[0].durable = i
	case len(open) == 1 && open[0].settle:
	default:
		for _, s := range ep.steps {
			if s.app == "" {
				s.durable = min(s.durable, i)
			}
		}
	}
}

// steps returns what is begun by a fact at event i.
func (f fact) steps(i int) []*step {
	s := &step{begun: i, durable: notYet}
	switch f.Do {
	case doCreate:
		s.apply = func(w *want) { w.accept(f.Tasks) }
	case doUpdate:
		s.app = f.Name
		s.apply = func(w *want) {
			w.accept(f.Tasks)
			w.apps[f.Name] = true
		}
	case doSettle:
		s.settle = true
		s.apply = func(w *want) {
			for _, end := range f.Ends {
				w.settle(end)
			}
		}
	case doRequeue:
		s.apply = func(w *want) {
			t := w.tasks[f.Name]
			t.Dead, t.Attempts, t.Reason, t.stale = false, 0, "", false
			w.tasks[f.Name] = t
			w.requeued++
		}
	case doDelete:
		s.apply = func(w *want) {
			delete(w.tasks, f.Name)
			w.deleted++
		}
	default: // a barrier
		return nil
	}
	return []*step{s}
}

func (w *want) accept(tasks []factTask) {
	for _, t := range tasks {
		for name, other := range w.tasks {
			if t.Latest != "" && other.Latest == t.Latest && !other.Dead {
				other.stale = true
				w.tasks[name] = other
			}
		}
		w.seq++
		w.accepted++
		w.tasks[t.Name] = wanted{factTask: t, seq: w.seq}
	}
}

func (w *want) settle(end factOutcome) {
	t := w.tasks[end.Name]
	switch end.Verdict {
	case outbox.Done:
		delete(w.tasks, end.Name)
		w.delivered++
		return
	case outbox.Release:
		return
	case outbox.Bury:
		t.Dead, t.Reason = true, end.Reason
	}
	t.Attempts++
	t.Failures = min(t.Failures+1, outbox.MaxFailures)
	w.tasks[end.Name] = t
}

// settled takes over which of the stale tasks are gone.
func (w *want) settled(tasks []factTask) *want {
	for name, t := range w.tasks {
		if t.stale && !t.Dead && !slices.ContainsFunc(tasks, func(one factTask) bool { return one.Name == name }) {
			delete(w.tasks, name)
			w.coalesced++
		}
	}
	return w
}

// match holds what was found after a power cut behind n events against what is
// right. It returns the state that fits, or what is wrong.
func (o *oracle) match(f inventory, n int) (*want, string) {
	i := len(o.epochs) - 1
	for o.epochs[i].from >= n && i > 0 {
		i--
	}
	return o.epochs[i].match(f, n)
}

// lastID returns the highest ID that was acknowledged in the first n events.
func (o *oracle) lastID(n int) (last outbox.ID) {
	for _, one := range o.ids {
		if one.event < n && one.id.Compare(last) > 0 {
			last = one.id
		}
	}
	return last
}

func (ep *epoch) match(f inventory, n int) (*want, string) {
	low, high := 0, 0 // how much of the log must have survived, and may have
	for _, s := range ep.steps {
		if s.app == "" && s.durable < n {
			low = high + 1
		}
		if s.app == "" && s.begun < n {
			high++
		}
	}
	first := ""
	for p := low; p <= high; p++ {
		w := ep.base.clone()
		if why := ep.replay(w, p, f, n); why != "" {
			return nil, why
		}
		why := w.compare(f)
		if why == "" {
			return w, ""
		}
		if first == "" {
			first = why
		}
	}
	return nil, fmt.Sprintf("%s (and other differences with %d more records)", first, high-low)
}

// replay does the first records of the log, and the transactions that were found.
func (ep *epoch) replay(w *want, records int, f inventory, n int) string {
	for _, s := range ep.steps {
		if s.app == "" {
			if records > 0 {
				s.apply(w)
				records--
			}
			continue
		}
		has := slices.Contains(f.apps, s.app)
		switch {
		case has && s.begun >= n:
			return "a transaction is there before it began: " + s.app
		case !has && s.durable < n:
			return "P1: a committed transaction is lost: " + s.app
		case has:
			s.apply(w)
		}
	}
	return ""
}

// compare returns what distinguishes a store from the state, or "".
func (w *want) compare(f inventory) string {
	seen := map[string]bool{}
	seq := 0
	for _, t := range f.tasks {
		x, known := w.tasks[t.Name]
		switch {
		case !known:
			return "P3: there but never accepted, or ended before: " + t.Name
		case seen[t.Name]:
			return "there twice: " + t.Name
		case x.seq <= seq:
			return "P4: not in the order of acceptance: " + t.Name
		}
		seen[t.Name], seq = true, x.seq
		t.ID = outbox.ID{}
		if x.stale && !x.Dead {
			t.Attempts, t.Failures = x.Attempts, x.Failures
		}
		if t != x.factTask {
			return fmt.Sprintf("changed: %+v, accepted and settled as %+v", t, x.factTask)
		}
	}
	coalesced, dead := w.coalesced, uint64(0)
	for name, t := range w.tasks {
		switch {
		case !seen[name] && (!t.stale || t.Dead):
			return "P1: lost: " + name
		case !seen[name]:
			coalesced++
		case t.Dead:
			dead++
		}
	}
	for _, app := range f.apps {
		if !w.apps[app] {
			return "an application's entry that was never written: " + app
		}
	}
	if len(f.apps) != len(w.apps) {
		return "an application's entry is lost"
	}
	got, s := outbox.Stats{}, f.stats
	got.Accepted, got.Delivered, got.Dead, got.Pending, got.InFlight = s.Accepted, s.Delivered, s.Dead, s.Pending, s.InFlight
	got.Dropped, got.Requeued = s.Dropped, s.Requeued
	right := outbox.Stats{Accepted: w.accepted, Delivered: w.delivered, Dead: dead, Pending: uint64(len(f.tasks)) - dead,
		Dropped: coalesced + w.deleted, Requeued: w.requeued}
	if got != right {
		return fmt.Sprintf("P5: counted %+v, right is %+v", got, right)
	}
	return ""
}
