package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// walk is a random walk, on which each name has a claimer of its own that sleeps until it
// is told, or until the time that its last claim has named.
type walk struct {
	*trial
	ear    *ear
	random *rand.Rand
	names  []string
	wakes  map[string]time.Time
	flying []outbox.Task

	offered int
	did     []string
}

func nothingUntold(c *trial) {
	names := []string{"a", "b", "c", outbox.GapName}
	for seed := range uint64(8) {
		e, stop := c.listens(names...)
		w := &walk{trial: c, ear: e, random: rand.New(rand.NewPCG(seed, 0)), names: names, wakes: map[string]time.Time{}}
		for range 150 {
			w.step()
		}
		w.done(w.flying...) // or their keys would wait for ever
		stop()
	}
}

func (w *walk) step() {
	w.Helper()
	switch n := w.random.IntN(20); {
	case n < 6:
		w.offer()
	case n < 13:
		w.claimOne(w.names[w.random.IntN(len(w.names))])
	case n < 17:
		w.settleOne()
	case n < 19:
		w.change()
	default:
		w.note("wait")
		w.pass(soon)
	}
}

func (w *walk) note(format string, args ...any) { w.did = append(w.did, fmt.Sprintf(format, args...)) }

// offer creates a few tasks, which may be refused.
func (w *walk) offer() {
	tasks := make([]outbox.Task, 1+w.random.IntN(3))
	for i := range tasks {
		t := task(fmt.Sprint("t", w.offered), key([]string{"", "k", "kk"}[w.random.IntN(3)]))
		w.offered++
		t.Name = w.names[w.random.IntN(3)]
		t.Delay = []time.Duration{0, 0, 0, soon, ages}[w.random.IntN(5)]
		t.TTL = []time.Duration{0, 0, 0, soon}[w.random.IntN(4)]
		t.LatestOnly = []string{"", "", "", "l"}[w.random.IntN(4)]
		if w.random.IntN(8) == 0 {
			t.KeyPolicy = outbox.ParkWholeKey
		}
		tasks[i] = t
	}
	if w.h.Tx != nil && w.random.IntN(8) == 0 {
		w.note("create %s in a transaction", brief(tasks))
		w.inTx(tasks...)
		return
	}
	if w.random.IntN(8) == 0 {
		tasks[0].Lease = ages
	}
	w.note("create %s", brief(tasks))
	w.create(tasks...)
	if tasks[0].State == outbox.InFlight {
		w.flying = append(w.flying, tasks[0])
	}
}

// claimOne claims some of one name. If it finds any, the claimer must have been awake, or
// be about to be woken: a store may tell a moment later.
func (w *walk) claimOne(name string) {
	w.Helper()
	told := w.ear.take(name) // before the claim, as what is told during it is for the next
	at := time.Now()
	got := w.claimed(outbox.ClaimRequest{
		Max: 1 + w.random.IntN(3), Lease: ages, Gaps: name == outbox.GapName,
		Match: func(other string) bool { return other == name },
	})
	w.note("claim of %s: %d, next in %v", name, len(got.Tasks), got.NextIn)
	wake, slept := w.wakes[name]
	if len(got.Tasks) > 0 && !told && slept && time.Now().Before(wake) {
		w.await(fmt.Sprintf("a notice of %s, of which a claim has found %s\n\t%s", name, called(got.Tasks[0]), strings.Join(w.did, "\n\t")),
			func() bool { return w.ear.heard(name) })
	}
	w.wakes[name] = at.Add(min(got.NextIn, 2*ages))
	w.flying = append(w.flying, got.Tasks...)
}

// settleOne ends one claim.
func (w *walk) settleOne() {
	w.Helper()
	if len(w.flying) == 0 {
		return
	}
	i := w.random.IntN(len(w.flying))
	t := w.flying[i]
	w.flying = slices.Delete(w.flying, i, i+1)
	o := outbox.Outcome{Verdict: outbox.Verdict(1 + w.random.IntN(4)), Delay: []time.Duration{0, soon, ages}[w.random.IntN(3)]}
	if o.Verdict == outbox.Bury {
		o.Reason = outbox.ReasonPermanent
	}
	w.note("settle %s: verdict %d, delay %v", called(t), o.Verdict, o.Delay)
	w.settle([]outbox.Task{t}, o)
}

// change requeues or deletes one task.
func (w *walk) change() {
	w.Helper()
	all := w.list(outbox.Filter{States: []outbox.State{outbox.Waiting, outbox.Dead}})
	if len(all) == 0 {
		return
	}
	t := all[w.random.IntN(len(all))]
	if t.State == outbox.Dead && w.random.IntN(3) > 0 {
		w.note("requeue %s", called(t))
		if _, err := w.s.Requeue(w.ctx, t.ID); !errors.Is(err, outbox.ErrDuplicate) {
			w.ok("requeue", err)
		}
		return
	}
	w.note("delete %s", called(t))
	if _, err := w.s.Delete(w.ctx, t.ID); !errors.Is(err, outbox.ErrNotFound) { // it is on its way out
		w.ok("delete", err)
	}
}
