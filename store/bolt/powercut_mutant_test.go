//go:build linux

package bolt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This file shows that the power cuts find what they are there to find: a recording
// from which some calls are struck out, or put elsewhere, is that of a program that
// does not make them, or makes them elsewhere. Each of these programs must be found
// out. They may fail in ways that take the process with them, so each is looked at by
// a process of its own.

// mutant is a way in which the program could be wrong.
type mutant struct {
	name   string
	mutate func([]event) []event
}

const (
	dbFile    = storeFolder + "/outbox.db"
	logFolder = storeFolder + "/wal"
)

var mutants = []mutant{
	{"no sync of any folder (R1)", withoutSync(func(e event) bool { return e.node == 0 })},
	{"no sync of the folder that the store is made in (R1)", withoutSync(func(e event) bool {
		return e.node == 0 && e.path == path.Dir(storeFolder)
	})},
	{"no sync of the store's folder (R1, R3)", withoutSync(func(e event) bool { return e.node == 0 && e.path == storeFolder })},
	{"no sync of the log's folder (R1)", withoutSync(func(e event) bool { return e.node == 0 && e.path == logFolder })},
	{"no sync of the log's files (R8)", withoutSync(func(e event) bool { return strings.HasPrefix(e.path, logFolder+"/") })},
	{"no sync of a segment's header before it has its name (R5)", withoutSync(func(e event) bool {
		return strings.HasPrefix(e.path, logFolder+"/") && strings.HasSuffix(e.path, ".spare")
	})},
	{"no sync of the database (R6)", withoutSync(func(e event) bool { return e.path == dbFile })},
	{"no sync of the database's pages before its meta page (R6)", withoutPageSync(false)},
	{"no sync of the database's meta page (R6)", withoutPageSync(true)},
	{"no sync of the new database before it has its name (R3)", withoutSync(func(e event) bool { return e.path == dbFile+".tmp" })},
	{"no sync of the database when it is opened (R2)", withoutSyncAtOpen(func(e event) bool { return e.path == dbFile })},
	{"no sync of the folder above the store when it is opened (R2)", withoutSyncAtOpen(func(e event) bool {
		return e.node == 0 && e.path == path.Dir(storeFolder)
	})},
	{"no sync of the store's folder when it is opened (R2)", withoutSyncAtOpen(func(e event) bool {
		return e.node == 0 && e.path == storeFolder
	})},
	{"the log is recycled before the checkpoint is durable (R6)", recycleEarly},
	{"accepted before the log is synced (R8)", acknowledgeEarly},
}

// withoutSync strikes syncs out.
func withoutSync(which func(event) bool) func([]event) []event {
	return func(events []event) []event {
		gone := map[int]bool{}
		for _, e := range events {
			if e.kind == evSyncBegin && which(e) {
				gone[e.call] = true
			}
		}
		return strike(events, gone)
	}
}

// strike strikes out syncs by their calls.
func strike(events []event, gone map[int]bool) []event {
	left := slices.Clone(events)
	for i, e := range left {
		if (e.kind == evSyncBegin || e.kind == evSyncEnd) && gone[e.call] {
			left[i] = event{kind: evStruck, path: e.path}
		}
	}
	return left
}

// withoutSyncAtOpen strikes out the syncs of what the process has not changed: they are
// for what the one before may have left. That of the log's files is not among the
// mutants: what it covers is written once more before anything refers to it (R10).
func withoutSyncAtOpen(which func(event) bool) func([]event) []event {
	return func(events []event) []event {
		gone, changed := map[int]bool{}, map[string]bool{}
		for _, e := range events {
			switch e.kind {
			case evDeath:
				clear(changed)
			case evWrite, evSize: // giving a file blocks leaves open what else a sync of it covers
				changed[e.path] = true
			case evMkdir, evCreate, evRename, evUnlink:
				changed[path.Dir(e.path)] = true
			case evSyncBegin:
				gone[e.call] = which(e) && !changed[e.path]
			}
		}
		return strike(events, gone)
	}
}

// withoutPageSync strikes out the first of the two syncs of a bbolt commit, or the
// second.
func withoutPageSync(ofMeta bool) func([]event) []event {
	return func(events []event) []event {
		meta := map[int]bool{} // syncs that follow a write to a meta page
		last := false
		for _, e := range events {
			switch {
			case e.path != dbFile:
			case e.kind == evWrite:
				last = isMeta(e)
			case e.kind == evSyncBegin:
				meta[e.call] = last
			}
		}
		return withoutSync(func(e event) bool { return e.path == dbFile && meta[e.call] == ofMeta })(events)
	}
}

// isMeta reports whether a page is written that says which of all pages count.
func isMeta(e event) bool {
	return e.kind == evWrite && e.path == dbFile && e.off <= 4096 && len(e.data) == 4096
}

// moved is an event that may have been put before another one.
type moved struct {
	event
	place int // events keep their order among those with the same place
}

func inOrder(list []moved) []event {
	slices.SortStableFunc(list, func(a, b moved) int { return a.place - b.place })
	events := make([]event, len(list))
	for i := range list {
		events[i] = list[i].event
	}
	return events
}

func placed(events []event) []moved {
	list := make([]moved, len(events))
	for i, e := range events {
		list[i] = moved{e, 2*i + 1}
	}
	return list
}

// recycleEarly frees the segments of the log just before the meta page is written
// that makes them useless.
func recycleEarly(events []event) []event {
	list := placed(events)
	meta, folderSync := -1, 0
	born := map[string]int{} // when a segment got its name
	before := -1             // where the sync of the folder is to go
	for i, e := range events {
		switch {
		case isMeta(e):
			meta = i
		case e.kind == evRename && strings.HasSuffix(e.to, ".wal"):
			born[e.to], meta = i, -1 // what goes now may have been the only one then
		case (e.kind == evRename || e.kind == evUnlink) && strings.HasSuffix(e.path, ".wal") && born[e.path] < meta:
			list[i].place, before = 2*meta, meta
		case e.kind == evSyncBegin && e.path == logFolder && before >= 0:
			list[i].place, folderSync = 2*before, e.call
		case e.kind == evSyncEnd && e.call == folderSync && before >= 0:
			list[i].place, before = 2*before, -1
		}
	}
	return inOrder(list)
}

// acknowledgeEarly says that an event was accepted before its sync has returned.
func acknowledgeEarly(events []event) []event {
	list := placed(events)
	begun, synced := "", -1
	for i, e := range events {
		switch {
		case e.kind == evSyncEnd:
			synced = i
		case e.kind == evFact:
			var f fact
			_ = json.Unmarshal(e.data, &f)
			if f.Do == doOK && begun == doCreate && synced >= 0 {
				list[i].place = 2 * synced
			}
			begun, synced = f.Do, -1
		}
	}
	return inOrder(list)
}

// notFound is what the child says when it has found nothing wrong.
var errNotFound = errors.New("no state was wrong")

func init() {
	children["mutant"] = func() error {
		root, traces, _ := strings.Cut(os.Getenv("GOUTBOX_POWERCUT"), ":")
		events, err := readTraces(traces, newTracer(root))
		if err != nil {
			return err
		}
		name := os.Getenv("GOUTBOX_TEST_MUTANT")
		i := slices.IndexFunc(mutants, func(m mutant) bool { return m.name == name })
		events = mutants[i].mutate(events)
		r := rand.New(rand.NewPCG(1, 1))
		for count := 200; count <= 3200; count *= 4 {
			p, err := newPowercut(events, os.Getenv("GOUTBOX_TEST_DIR"))
			if err != nil {
				return err
			}
			fmt.Println("looking at", count) // should a state take the process with it
			if all := p.run(choose(events, 0, len(events), count, r), true); len(all) > 0 {
				fmt.Printf("violation in state %d: %.600v\n", p.met.states.Load(), all[0])
				return nil
			}
		}
		return errNotFound
	}
}

// fatal is what Go says when a process cannot go on.
var fatal = regexp.MustCompile(`(?m)^(fatal error|unexpected fault address|runtime: goroutine stack exceeds|panic): ?.*`)

// testMutant looks for a state in which the mutant shows. A recording is never the same
// twice, and now and then one has no moment at which what is missing is missed: then
// another is made.
func testMutant(t *testing.T, rec *recording, m mutant, again func() *recording) {
	for tries := 1; ; tries++ {
		found, what := findMutant(t, rec, m)
		switch {
		case found:
			t.Logf("found out in %s", what)
			return
		case tries == 5:
			t.Errorf("not found out: %s", what)
			return
		}
		rec = again()
	}
}

func findMutant(t *testing.T, rec *recording, m mutant) (found bool, what string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childEnv+"=mutant", "GOUTBOX_TEST_MUTANT="+m.name, "GOUTBOX_TEST_DIR="+scratch(t),
		"GOUTBOX_POWERCUT="+rec.root+":"+rec.traces)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	looking := strings.Contains(out.String(), "looking at")
	_, what, found = strings.Cut(out.String(), "violation in ")
	switch {
	case found: // whatever else became of the process, which may have read wild memory
		return true, what
	case looking && fatal.MatchString(out.String()):
		return true, "the end of the process: " + fatal.FindString(out.String())
	}
	return false, fmt.Sprintf("%v, %v: %s", err, ctx.Err(), &out)
}
