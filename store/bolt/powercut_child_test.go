//go:build linux

package bolt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"go.etcd.io/bbolt"
)

// This file is the program that is recorded. It does one thing after the other, at
// random but the same for the same seed, and says so; beside it the store has its
// own background.

// storeFolder is the store's folder below the root of the recording. It is not there
// in the beginning, nor is its parent.
const storeFolder = "data/store"

func init() {
	children["powercut"] = func() error {
		root, steps := os.Getenv("GOUTBOX_TEST_ROOT"), os.Getenv("GOUTBOX_TEST_STEPS")
		life, err := strconv.ParseUint(os.Getenv("GOUTBOX_TEST_LIFE"), 10, 64)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(steps)
		if err != nil {
			return err
		}
		r := &recorded{life: life, rand: rand.New(rand.NewPCG(life, 7)), dir: filepath.Join(root, storeFolder)}
		return r.live(n, os.Getenv("GOUTBOX_TEST_END") == "close")
	}
	children["recover"] = func() error { return recoverAll(os.Getenv("GOUTBOX_TEST_ROOT")) }
}

// sayFact writes a fact, in one write that the recording has among all others.
func sayFact(f fact) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

// recorded is the program.
type recorded struct {
	s     *bolt.Store
	dir   string
	life  uint64
	rand  *rand.Rand
	named int
	tasks []outbox.Task // waiting or dead, as far as known; some are gone
	held  []outbox.Task // claimed and not settled
}

// live opens the store, does some hundred things, and closes it in the midst of
// them and at the end; or does not close it at the end.
func (r *recorded) live(steps int, clean bool) error {
	for range 2 {
		if err := r.open(); err != nil {
			return err
		}
		for range steps / 2 {
			if err := r.step(); err != nil {
				return err
			}
		}
		if !clean {
			continue
		}
		if err := r.do(fact{Do: doBarrier}, func() (outbox.ID, error) { return outbox.ID{}, r.s.Close() }); err != nil {
			return err
		}
		r.s = nil
	}
	return nil
}

func (r *recorded) open() (err error) {
	if r.s != nil {
		return nil
	}
	ack := time.Hour // outcomes become durable with something else
	if r.life%2 == 1 {
		ack = time.Millisecond
	}
	overlay := [...]int{24, 70, 200}[r.life%3] // checkpoints are frequent, or rare
	r.s, err = bolt.Open(r.dir, quiet, bolt.WithOverlay(overlay, 4000), bolt.WithSegmentBytes(64<<10), bolt.WithAckSync(ack))
	if err != nil {
		return err
	}
	r.tasks, r.held = nil, nil
	for t, err := range r.s.Tasks(context.Background(), outbox.Filter{}) {
		if err != nil {
			return err
		}
		r.tasks = append(r.tasks, t)
	}
	return sayOpened(r.s)
}

func sayOpened(s *bolt.Store) error {
	f, err := observe(s)
	if err != nil {
		return err
	}
	return sayFact(fact{Do: doOpened, Tasks: f.tasks, Apps: f.apps, Stats: &f.stats})
}

// do says what comes, does it, and says what became of it.
func (r *recorded) do(f fact, work func() (outbox.ID, error)) error {
	if err := sayFact(f); err != nil {
		return err
	}
	last, err := work()
	switch {
	case errors.Is(err, outbox.ErrDuplicate), errors.Is(err, outbox.ErrNotFound), errors.Is(err, outbox.ErrInFlight), errors.Is(err, errNothing):
		return sayFact(fact{Do: doRefused})
	case err != nil:
		return fmt.Errorf("%s: %w", f.Do, err)
	}
	return sayFact(fact{Do: doOK, Last: last})
}

// step does one thing.
func (r *recorded) step() error {
	barrier := func(f func() error) error {
		return r.do(fact{Do: doBarrier}, func() (outbox.ID, error) { return outbox.ID{}, f() })
	}
	switch n := r.rand.IntN(100); {
	case n < 32:
		return r.create(1)
	case n < 40:
		return r.create(2 + r.rand.IntN(4))
	case n < 50:
		return r.update(1 + r.rand.IntN(3))
	case n < 78:
		return r.deliver(1 + r.rand.IntN(6))
	case n < 84:
		return r.about(doRequeue, r.s.Requeue)
	case n < 89:
		return r.about(doDelete, r.s.Delete)
	case n < 94:
		return barrier(r.s.Sync)
	case n < 97:
		return barrier(r.s.Flush)
	}
	return barrier(r.s.Lighten)
}

// make makes tasks of all kinds.
func (r *recorded) make(n int, inTx bool) (tasks []outbox.Task, facts []factTask) {
	for range n {
		r.named++
		name := fmt.Sprintf("life%d-%d", r.life, r.named)
		size := 50 + r.rand.IntN(1500)
		if r.rand.IntN(6) == 0 {
			size = 3000 + r.rand.IntN(12000) // over several pages of bbolt
		}
		t := outbox.Task{Event: outbox.Event{Name: name, Payload: payloadOf(name, size)}, MaxAttempts: 100}
		if r.rand.IntN(2) == 0 {
			t.Key = fmt.Sprintf("k%d", r.rand.IntN(4))
		}
		switch r.rand.IntN(10) {
		case 0:
			t.Unique = fmt.Sprintf("u%d", r.rand.IntN(5))
		case 1, 2:
			if !inTx {
				t.LatestOnly = fmt.Sprintf("l%d", r.rand.IntN(3))
			}
		case 3:
			t.Delay = time.Hour
		case 4:
			t.Delay = time.Millisecond
		}
		tasks = append(tasks, t)
		facts = append(facts, factTask{Name: name, Key: t.Key, Unique: t.Unique, Latest: t.LatestOnly, Payload: size})
	}
	return tasks, facts
}

func (r *recorded) create(n int) error {
	tasks, facts := r.make(n, false)
	return r.do(fact{Do: doCreate, Tasks: facts}, func() (outbox.ID, error) {
		err := r.s.Create(context.Background(), tasks)
		if err == nil {
			r.tasks = append(r.tasks, tasks...)
		}
		return tasks[n-1].ID, err
	})
}

// update accepts events in a transaction of the application, or rolls it back.
func (r *recorded) update(n int) error {
	tasks, facts := r.make(n, true)
	name, rollback := "app-"+tasks[0].Name, r.rand.IntN(5) == 0
	return r.do(fact{Do: doUpdate, Name: name, Tasks: facts}, func() (outbox.ID, error) {
		err := r.s.Update(context.Background(), func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(appBucket)
			if err == nil {
				err = b.Put([]byte(name), payloadOf(name, 100))
			}
			if err == nil {
				err = r.s.Create(bolt.WithTx(context.Background(), tx), tasks)
			}
			if err == nil && rollback {
				return errNothing
			}
			return err
		})
		if err == nil {
			r.tasks = append(r.tasks, tasks...)
		}
		return tasks[n-1].ID, err
	})
}

// deliver claims some tasks and ends these claims, and those that were held back, in
// one call.
func (r *recorded) deliver(n int) error {
	c, err := r.s.Claim(context.Background(), outbox.ClaimRequest{Max: n, Lease: time.Hour})
	if err != nil {
		return err
	}
	var outcomes []outbox.Outcome
	var facts []factOutcome
	held := r.held
	r.held = nil
	for _, t := range append(held, c.Tasks...) {
		o := outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Done}
		switch v := r.rand.IntN(20); {
		case v < 3:
			r.held = append(r.held, t) // in flight for a while, perhaps when the process dies
			continue
		case v < 6:
			o.Verdict, o.Delay = outbox.Retry, time.Duration(r.rand.IntN(2))*time.Hour
		case v < 9:
			o.Verdict, o.Reason = outbox.Bury, outbox.ReasonPermanent
		case v < 10:
			o.Verdict = outbox.Release
		}
		if o.Verdict == outbox.Retry || o.Verdict == outbox.Bury {
			o.Failure = outbox.Failure{At: time.Now(), Attempt: t.Attempt, Error: "no"}
		}
		outcomes = append(outcomes, o)
		facts = append(facts, factOutcome{t.Name, o.Verdict, o.Reason})
	}
	if len(outcomes) == 0 {
		return nil
	}
	return r.do(fact{Do: doSettle, Ends: facts}, func() (outbox.ID, error) {
		return outbox.ID{}, r.s.Settle(context.Background(), outcomes)
	})
}

// about does something to one task, whatever became of it meanwhile.
func (r *recorded) about(what string, f func(context.Context, ...outbox.ID) (int, error)) error {
	if len(r.tasks) == 0 {
		return nil
	}
	t := r.tasks[r.rand.IntN(len(r.tasks))]
	if what == doRequeue { // one that is dead, if there is one
		for d, err := range r.s.Tasks(context.Background(), outbox.Filter{States: []outbox.State{outbox.Dead}, Limit: 1 + r.rand.IntN(5)}) {
			if err != nil {
				return err
			}
			t = d
		}
	}
	return r.do(fact{Do: what, Name: t.Name}, func() (outbox.ID, error) {
		_, err := f(context.Background(), t.ID)
		return outbox.ID{}, err
	})
}

// recoverAll opens and closes the stores in all folders below root.
func recoverAll(root string) error {
	folders, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if err := sayFact(fact{Do: doRecover, Name: f.Name()}); err != nil {
			return err
		}
		s, err := bolt.Open(filepath.Join(root, f.Name(), storeFolder), quiet, bolt.WithSegmentBytes(64<<10))
		if err != nil {
			return err
		}
		if err := sayOpened(s); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}
