//go:build linux

package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// Power cuts with the real input and output of bbolt and of the log (P1, P3, P4, P5,
// R1 to R6, R24, R28 to R30).
//
// A program (powercut_child_test.go) works on a store in a real folder under strace
// (powercut_record_test.go). Its system calls become a list of events
// (powercut_trace_test.go), with what the program says of itself in between. A model
// of a disk (powercut_disk_test.go) is led through them, and at any of them says what
// a power cut may leave there: what was synced, and of all else, sector by sector and
// name by name, any part. That is written into a real folder, and a store is opened
// in it (powercut_check_test.go). What it has must be what the program had after some
// prefix of its log, which must not leave out what was acknowledged
// (powercut_oracle_test.go). Then everything is delivered, and the store opened once
// more. powercut_mutant_test.go shows that all this finds what it is there to find.
//
// The limits: Calls that no trace shows are not seen; bbolt and the log write with
// pwrite only, and a file mapped for writing is refused. The program does one thing
// at a time, beside the store's own background, so crashes amid many callers are left
// to the tests of package wal. The model is harsher than real file systems: a sync of
// a file says nothing about its name, and names go each their own way, where journals
// keep an order. A sector is whole or not written. A disk that lies is not modelled.

// cut is a power cut when n events had happened, and what it took. Looked at is what
// is below a folder of the model.
type cut struct {
	n     int
	seed  uint64
	under string
}

// violation is a state in which something was wrong.
type violation struct {
	cut
	err error
}

func (v violation) String() string { return fmt.Sprintf("event %d, seed %d: %v", v.n, v.seed, v.err) }

// powercut cuts a recording and looks at what is left.
type powercut struct {
	events []event
	base   *disk  // before the first event
	dir    string // where images are written
	last   func(c cut) outbox.ID
	right  func(c cut, f inventory) string

	met      met
	distinct sync.Map
}

// newPowercut is for a recording from the very beginning.
func newPowercut(events []event, dir string) (*powercut, error) {
	o, err := newOracle(events)
	if err != nil {
		return nil, err
	}
	return &powercut{
		events: events, base: newDisk(), dir: dir,
		last: func(c cut) outbox.ID { return o.lastID(c.n) },
		right: func(c cut, f inventory) string {
			_, why := o.match(f, c.n)
			return why
		},
	}, nil
}

// run looks at all cuts, or up to the first violation if one is enough. The cuts are
// sorted. The model is used up.
func (p *powercut) run(cuts []cut, enough bool) (found []violation) {
	type job struct {
		cut
		img image
	}
	jobs := make(chan job) // closed below
	var mu sync.Mutex      // guards found
	stop := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(found) > 20 || enough && len(found) > 0
	}
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			dir := filepath.Join(p.dir, fmt.Sprintf("state-%d", w))
			for j := range jobs {
				p.distinct.Store(j.img.hash(), true)
				err := p.met.check(j.img, dir, p.last(j.cut), func(f inventory) string { return p.right(j.cut, f) })
				if err != nil {
					mu.Lock()
					found = append(found, violation{j.cut, err})
					mu.Unlock()
				}
			}
		})
	}
	n := 0
	for _, c := range cuts {
		for ; n < c.n; n++ {
			p.base.apply(p.events[n])
		}
		if stop() {
			break
		}
		img := p.base.cut(c)
		if db := p.base.file(path.Join(c.under, dbFile)); db != nil && metaTx(img.files[dbFile]) < metaTx(db) {
			p.met.olderMeta.Add(1)
		}
		jobs <- job{c, img}
	}
	close(jobs)
	workers.Wait()
	return found
}

// file returns what programs see in a file, or nil.
func (d *disk) file(name string) []byte {
	if dir := d.folders[path.Dir(name)]; dir != nil && d.nodes[dir.now[path.Base(name)]] != nil {
		return d.nodes[dir.now[path.Base(name)]].now
	}
	return nil
}

func sortCuts(cuts []cut) { slices.SortStableFunc(cuts, func(a, b cut) int { return a.n - b.n }) }

// choose chooses cuts between two events: a quarter of them right before and right
// behind what matters most, a quarter behind what was written to the log and is not
// synced, the others anywhere. What matters most in a mutant is what comes after a call
// that it does not make.
func choose(events []event, from, to, count int, r *rand.Rand) []cut {
	var all, best, torn, near []int
	struck := map[string]int{} // until the same is synced after all, or for long enough
	for i := from; i < to; i++ {
		e := events[i]
		switch {
		case e.kind == evFact:
			continue
		case e.kind == evSyncEnd, e.kind == evRename, e.kind == evUnlink,
			isMeta(e):
			best = append(best, i, i+1)
		case e.kind == evStruck:
			struck[e.path] = i
		case e.kind == evSyncBegin:
			delete(struck, e.path)
		}
		for path, at := range struck {
			if i-at > 150 {
				delete(struck, path)
			}
		}
		if len(struck) > 0 {
			near = append(near, i+1)
		}
		if e.kind == evWrite && strings.HasSuffix(e.path, ".wal") {
			torn = append(torn, i+1)
		}
		all = append(all, i+1)
	}
	var cuts []cut
	if near != nil {
		best = near
	}
	for _, from := range [][]int{slices.Compact(best), all, all, torn} {
		for i := 0; i < count/4 && len(from) > 0; i++ { // evenly spread, and a little off
			at := (i*len(from) + r.IntN(len(from))) / (count / 4) % len(from)
			seed := r.Uint64()
			if i%4 < 2 {
				seed = uint64(i % 4)
			}
			cuts = append(cuts, cut{n: from[at], seed: seed, under: "."})
		}
	}
	sortCuts(cuts)
	return cuts
}

// theLives are processes of all kinds. Those that are killed lose nothing by that, but
// they leave behind what was not synced, and the next one must not take it as durable
// because it can read it (R2, R10).
func theLives(seed uint64, steps int) []life {
	lives := []life{
		{steps: 2, kill: "folder"},
		{steps: 2, kill: "open"},
		{steps: 2, kill: "names"},
		{steps: steps, end: "close"},
		{steps: steps / 2, kill: "log"},
		{steps: 2, kill: "open"},
		{steps: steps, kill: "meta"},
		{steps: steps, kill: "recycle"},
		{steps: steps / 2}, // ends and closes nothing
		{steps: steps / 2, kill: "work"},
		{steps: steps / 2, kill: "meta"},
		{steps: steps / 2, end: "close"},
	}
	for i := range lives {
		lives[i].seed = seed + uint64(i)
	}
	return lives
}

func TestPowerCut(t *testing.T) {
	needStrace(t)
	long := os.Getenv("GOUTBOX_TORTURE") != ""
	states, recoveries, steps, recordings := 400, 6, 120, 1
	if long {
		states, recoveries, steps, recordings = 3000, 40, 400, 4
	}
	for range recordings {
		seed := rand.Uint64N(1 << 40)
		t.Logf("seed %d", seed)
		rec := record(t, theLives(seed, steps))
		t.Run("States", func(t *testing.T) {
			testStates(t, rec, choose(rec.events, 0, len(rec.events), states, rand.New(rand.NewPCG(seed, 1))))
		})
		t.Run("CutInRecovery", func(t *testing.T) {
			testCutInRecovery(t, rec, recoveries, 20, rand.New(rand.NewPCG(seed, 2)))
		})
		for _, m := range mutants {
			t.Run("Mutant/"+m.name, func(t *testing.T) {
				t.Parallel()
				testMutant(t, rec, m, func() *recording { return record(t, theLives(rand.Uint64N(1<<40), steps)) })
			})
		}
	}
}

// TestPowerCut_Again looks at the kept traces of a test that has failed, at all that
// it may find or at one state: GOUTBOX_POWERCUT=root:traces[:event:seed].
func TestPowerCut_Again(t *testing.T) {
	parts := strings.Split(os.Getenv("GOUTBOX_POWERCUT"), ":")
	if len(parts) < 2 {
		t.Skip("GOUTBOX_POWERCUT does not say where the traces are")
	}
	rec := &recording{root: parts[0], traces: parts[1]}
	var err error
	rec.events, err = readTraces(rec.traces, newTracer(rec.root))
	require.NoError(t, err)
	cuts := choose(rec.events, 0, len(rec.events), 4000, rand.New(rand.NewPCG(1, 1)))
	if len(parts) == 4 {
		c := cut{under: "."}
		_, err := fmt.Sscan(parts[2]+" "+parts[3], &c.n, &c.seed)
		require.NoError(t, err)
		cuts = []cut{c}
	}
	p, err := newPowercut(rec.events, scratch(t))
	require.NoError(t, err)
	for _, v := range p.run(cuts, false) {
		t.Errorf("%v\n%s", v, around(rec.events, v.n))
	}
}

func testStates(t *testing.T, rec *recording, cuts []cut) {
	p, err := newPowercut(rec.events, scratch(t))
	require.NoError(t, err)
	for _, v := range p.run(cuts, false) {
		t.Errorf("%v\n%s", v, around(rec.events, v.n))
	}
	t.Logf("%d events, %v, %d different", len(rec.events), &p.met, p.different())
	for name, n := range map[string]int64{
		"replay": p.met.replayed.Load(), "torn tail": p.met.torn.Load(), "older meta page": p.met.olderMeta.Load(),
		"temporary name": p.met.unfinished.Load(), "no database": p.met.fresh.Load(),
	} {
		require.NotZero(t, n, "no state has led to: %s", name)
	}
}

func (p *powercut) different() (n int) {
	p.distinct.Range(func(any, any) bool { n++; return true })
	return n
}

// around shows the events before a cut.
func around(events []event, n int) string {
	var b strings.Builder
	for i := max(0, n-25); i < min(len(events), n+5); i++ {
		fmt.Fprintf(&b, "%6d %.200v\n", i, events[i])
	}
	return b.String()
}
