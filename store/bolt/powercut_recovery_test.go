//go:build linux

package bolt_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// recovery is one of the recoveries that are recorded, and what came before it.
type recovery struct {
	first    cut
	from, to int // its events
	want     *want
}

// testCutInRecovery cuts the power a second time while a store recovers from the
// first cut (R28). All that the first cut has left is durable, so however often a
// recovery is cut short: what is found in the end is what the first one has found.
func testCutInRecovery(t *testing.T, rec *recording, recoveries, cutsEach int, r *rand.Rand) {
	again := newRecording(t)
	tracer, base := newTracer(again.root), newDisk()
	list := map[string]*recovery{}
	before := newDisk()
	for i, e := range rec.events {
		if n := len(list); n < recoveries && i >= (n+1)*len(rec.events)/(recoveries+1) {
			name := fmt.Sprintf("%04d", n)
			list[name] = &recovery{first: cut{n: i, seed: r.Uint64(), under: "."}}
			img := before.cut(list[name].first)
			require.NoError(t, img.write(filepath.Join(again.root, name)))
			img.install(name, base, tracer)
		}
		before.apply(e)
	}
	again.strace(t, "recover")
	var err error
	again.events, err = readTraces(again.traces, tracer)
	require.NoError(t, err)
	o, err := newOracle(rec.events)
	require.NoError(t, err)
	listen(t, again.events, list, o)

	var cuts []cut
	for name, one := range list {
		for _, c := range choose(again.events, one.from, one.to, cutsEach, r) {
			c.under = name
			cuts = append(cuts, c)
		}
	}
	sortCuts(cuts)
	p := &powercut{
		events: again.events, base: base, dir: scratch(t),
		last:  func(c cut) outbox.ID { return o.lastID(list[c.under].first.n) },
		right: func(c cut, f inventory) string { return list[c.under].want.clone().compare(f) },
	}
	for _, v := range p.run(cuts, false) {
		t.Errorf("first cut %+v: %v\n%s", list[v.under].first, v, around(again.events, v.n))
	}
	t.Logf("%d recoveries, %d events, %v, %d different", len(list), len(again.events), &p.met, p.different())
	require.Len(t, list, recoveries)
	require.NotZero(t, p.met.replayed.Load())
	if recoveries >= 20 { // with a few it is a matter of luck
		require.NotZero(t, p.met.olderMeta.Load(), "no state in which the checkpoint of a recovery was cut short")
	}
}

// listen notes when each recovery was, and what it has found.
func listen(t *testing.T, events []event, list map[string]*recovery, o *oracle) {
	var at *recovery
	for i, e := range events {
		if e.kind != evFact {
			continue
		}
		var f fact
		require.NoError(t, json.Unmarshal(e.data, &f))
		if at != nil {
			at.to = i
		}
		switch f.Do {
		case doRecover:
			at = list[f.Name]
			at.from, at.to = i, len(events)
		case doOpened:
			w, why := o.match(inventory{f.Tasks, f.Apps, *f.Stats}, at.first.n)
			require.Empty(t, why, "first cut %+v", at.first)
			at.want = w.settled(f.Tasks)
		}
	}
}

// install makes the image what was on a disk from the beginning, in a folder.
func (img image) install(under string, d *disk, t *tracer) {
	d.putFolder(under)
	for _, name := range img.folders {
		d.putFolder(path.Join(under, name))
	}
	for name, data := range img.files {
		p := path.Join(under, name)
		t.lastID++
		t.nodes[p], t.names[t.lastID] = t.lastID, p
		d.put(p, t.lastID, data)
	}
}

// newRecording makes the folders for a recording.
func newRecording(t *testing.T) *recording {
	t.Helper()
	dir := scratch(t)
	rec := &recording{root: filepath.Join(dir, "root"), traces: filepath.Join(dir, "traces")}
	require.NoError(t, os.Mkdir(rec.root, 0o700))
	require.NoError(t, os.Mkdir(rec.traces, 0o700))
	rec.keepOnFailure(t)
	return rec
}
