package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// TestStore_Machine does with a store whatever can be done, in an order that rapid
// chooses, and the same with store/mem, and compares after every step. The log is on
// a disk that loses its power (waltest), the clock is that of a bubble: it goes on
// when the machine sleeps, and the wall clock lies at will. When they differ, rapid
// looks for the shortest story in which they do, and prints it.
//
// Both sides know a task under the same ID: mem is given those that the store has
// assigned.
func TestStore_Machine(t *testing.T) {
	checks := "60"
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		checks = "1500"
	}
	for name, value := range map[string]string{"rapid.checks": checks, "rapid.nofailfile": "true"} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			require.NoError(t, flag.Set(name, value))
			defer func() { require.NoError(t, flag.Set(name, f.DefValue)) }()
		}
	}
	dir := t.TempDir()
	lives := 0
	rapid.Check(t, func(outer *rapid.T) {
		lives++
		home := filepath.Join(dir, fmt.Sprint(lives))
		defer os.RemoveAll(home)
		rapid.SyncTest(outer, func(t *rapid.T) { newMachine(t, home).run() })
	})
}

// machine is a store and its model.
type machine struct {
	*rapid.T
	ctx   context.Context
	dir   string
	disk  *waltest.FS
	wrong atomic.Int64 // how many years the wall clock is ahead
	s     *bolt.Store
	model *mem.Store

	// before is what the model was before each settle that may not be durable yet: a
	// crash may take those back, the latest first (P3).
	before []*mem.Store

	made   int // tasks offered
	known  map[outbox.ID]outbox.Task
	tokens map[outbox.ID][2]uint64 // of what is in flight, store's and model's
	dueBy  time.Time               // all short delays have passed by then
	late   bool                    // the store still holds replaced tasks, until its next Claim
}

func newMachine(t *rapid.T, dir string) *machine {
	m := &machine{T: t, ctx: t.Context(), dir: dir, disk: waltest.New(), model: mem.New(), known: map[outbox.ID]outbox.Task{}}
	mkdirAll(t, m.disk, dir)
	m.open()
	return m
}

// open opens the store, with an overlay and segments of any size.
func (m *machine) open() {
	soft := rapid.IntRange(1, 40).Draw(m.T, "tasks in memory")
	segment := rapid.SampledFrom([]int64{64 << 10, 256 << 10}).Draw(m.T, "segment")
	s, err := bolt.Open(m.dir, quiet, bolt.WithOverlay(soft, 1000), bolt.WithSegmentBytes(segment), bolt.WithAckSync(1000*time.Hour),
		bolt.WithLogFS(m.disk), bolt.WithWallClock(func() time.Time { return time.Now().AddDate(int(m.wrong.Load()), 0, 0) }))
	m.ok("open", err)
	m.s, m.tokens = s, map[outbox.ID][2]uint64{}
	m.later()
}

// mkdirAll makes a folder on a disk in memory, as it is on the other.
func mkdirAll(t require.TestingT, disk *waltest.FS, dir string) {
	parent := filepath.VolumeName(dir) + string(filepath.Separator)
	for _, name := range strings.Split(dir[len(parent):], string(filepath.Separator)) {
		path := filepath.Join(parent, name)
		require.NoError(t, disk.Mkdir(path))
		require.NoError(t, disk.SyncDir(parent))
		parent = path
	}
}

func (m *machine) run() {
	defer func() { _ = m.s.Close() }() // nobody is left in the bubble, also after a failure
	m.Repeat(map[string]func(*rapid.T){
		"create": m.step(m.create), "create ": m.step(m.create), "in tx": m.step(m.createInTx),
		"claim": m.step(m.claim), "claim ": m.step(m.claim),
		"settle": m.step(m.settle), "settle ": m.step(m.settle), "settle  ": m.step(m.settle),
		"requeue": m.step(m.requeue), "delete": m.step(m.remove),
		"checkpoint": m.step(func() { m.ok("flush", m.s.Flush()); m.before = nil }),
		"lighten":    m.step(func() { m.ok("lighten", m.s.Lighten()); m.before = nil }),
		"sync":       m.step(m.sync),
		"reopen":     m.step(m.reopen), "crash": m.step(m.crash), "crash ": m.step(m.crash),
		"wall clock": m.step(func() { m.wrong.Store(rapid.SampledFrom([]int64{0, 50, -50, -80, 9000}).Draw(m.T, "years")) }),
		"idle":       m.step(func() { time.Sleep(11 * time.Minute); synctest.Wait() }),
		"filter":     m.step(m.filter),
		"":           m.check,
	})
	m.reopen()
	for m.claim(); len(m.tokens) > 0; m.claim() {
		for id := range m.tokens {
			m.settleBoth(map[outbox.ID]outbox.Outcome{id: {Verdict: outbox.Done}})
		}
		m.sync()
	}
	m.compare(m.model, true) // what a transaction has replaced may stand behind a head that is not due
	m.audit()
}

// step is an action of rapid's. What the background has to do is done when it ends,
// so the same draws are the same story.
func (m *machine) step(f func()) func(*rapid.T) {
	return func(t *rapid.T) {
		m.T = t
		f()
		synctest.Wait()
	}
}

func (m *machine) ok(what string, err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

func (m *machine) audit() {
	_, err := m.s.Audit(m.ctx)
	m.ok("audit", err)
}

func (m *machine) sync() {
	m.ok("sync", m.s.Sync())
	m.before = nil
}

// same compares what came of a call on both sides.
func (m *machine) same(what string, store, model any) {
	m.Helper()
	if a, b := fmt.Sprint(store), fmt.Sprint(model); a != b {
		m.Fatalf("%s:\n\tstore %s\n\tmodel %s", what, a, b)
	}
}

// sentinel is what callers branch on in an error.
func sentinel(err error) error {
	for _, k := range []error{outbox.ErrDuplicate, outbox.ErrNotFound, outbox.ErrInFlight, outbox.ErrLeaseLost} {
		if errors.Is(err, k) {
			return k
		}
	}
	return err
}

// Delays are none, short ones that are slept through before a claim, or ages: with
// others store and model could disagree after a crash, when the store's clock has
// forgotten the last moments.
const (
	soon = 2 * time.Millisecond
	ages = 10_000 * time.Hour
)

func (m *machine) anyDelay() time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, 0, soon, ages}).Draw(m.T, "delay")
}

// later keeps in mind that something short began now at the latest.
func (m *machine) later() { m.dueBy = time.Now().Add(2 * soon) }

// offer makes up to four tasks.
func (m *machine) offer(leases bool) []outbox.Task {
	tasks := make([]outbox.Task, rapid.IntRange(1, 4).Draw(m.T, "tasks"))
	for i := range tasks {
		t := &tasks[i]
		*t = outbox.Task{Event: outbox.Event{Name: fmt.Sprint("t", m.made)}, MaxAttempts: 3, Delay: m.anyDelay()}
		m.made++
		size := rapid.SampledFrom([]int{1, 1, 1, 30_000}).Draw(m.T, "payload of") // two large ones fill a segment
		t.Payload = bytes.Repeat([]byte(t.Name), size)
		t.Key = rapid.SampledFrom([]string{"", "", "a", "b", "bb"}).Draw(m.T, "key")
		switch rapid.SampledFrom([]string{"", "", "", "unique", "unique for", "latest", "latest", "ttl"}).Draw(m.T, "kind") {
		case "unique for":
			t.Unique, t.UniqueFor = fmt.Sprint("s", m.made/8), ages
		case "unique":
			t.Unique = rapid.SampledFrom([]string{"u", "uu"}).Draw(m.T, "unique")
		case "latest":
			t.LatestOnly = rapid.SampledFrom([]string{"l", "ll"}).Draw(m.T, "latest")
		case "ttl": // of a key, mem drops also those that stand behind the head
			t.Key, t.TTL = "", rapid.SampledFrom([]time.Duration{soon, ages}).Draw(m.T, "ttl")
		}
		t.KeyPolicy = rapid.SampledFrom([]outbox.KeyPolicy{outbox.BlockKey, outbox.ParkKey, outbox.ParkWholeKey}).Draw(m.T, "policy")
		if leases && t.Delay == 0 && rapid.IntRange(0, 5).Draw(m.T, "lease") == 5 {
			t.Lease = outbox.MaxLease
		}
	}
	return tasks
}

// offered says what tasks were offered, for the story.
func offered(tasks []outbox.Task) string {
	var all []string
	for _, t := range tasks {
		all = append(all, fmt.Sprintf("%s(key %q policy %v unique %q for %v latest %q delay %v ttl %v lease %v)", t.Name, t.Key, t.KeyPolicy, t.Unique, t.UniqueFor, t.LatestOnly, t.Delay, t.TTL, t.Lease))
	}
	return strings.Join(all, " ")
}

func namesOf(tasks []outbox.Task) (names []string) {
	for _, t := range tasks {
		names = append(names, t.Name)
	}
	return names
}

func (m *machine) create() {
	if m.late {
		m.claim() // or what is on its way out may still stand before a task with a Lease
	}
	tasks := m.offer(true)
	if ids := m.listed(); len(ids) > 0 && rapid.IntRange(0, 15).Draw(m.T, "same ID") == 15 {
		tasks[len(tasks)-1].ID = ids[0]
	}
	if slices.ContainsFunc(tasks, func(t outbox.Task) bool { return t.Lease > 0 }) {
		m.sync() // or a retry that is not durable yet counts as in flight: replaced, it still stands before the new one
	}
	model := slices.Clone(tasks)
	m.Logf("create %s", offered(tasks))
	err := m.s.Create(m.ctx, tasks)
	m.created(tasks, model, err)
	if err == nil {
		m.before = nil // it has synced whatever came before it
	}
}

// created has the model accept what the store has accepted, or refused.
func (m *machine) created(tasks, model []outbox.Task, err error) {
	m.Helper()
	for i := range model {
		if model[i].ID = tasks[i].ID; err != nil && m.known[model[i].ID].Name == "" {
			model[i].ID = outbox.ID{}
		}
	}
	m.same("create", sentinel(err), sentinel(m.model.Create(m.ctx, model)))
	m.later()
	if err != nil {
		return
	}
	for i, t := range tasks {
		m.same("state of "+t.Name, t.State, model[i].State)
		m.known[t.ID] = t
		if t.State == outbox.InFlight {
			m.tokens[t.ID] = [2]uint64{t.Token, model[i].Token}
		}
	}
}

// createInTx accepts tasks in a transaction, or rolls it back. What was settled
// before is made durable first: a transaction does not bring the log with it, and a
// crash might leave two holders of a Unique key, one delivered, one new.
func (m *machine) createInTx() {
	if m.late {
		m.claim()
	}
	m.sync()
	tasks := m.offer(false)
	model := slices.Clone(tasks)
	rollBack := rapid.Bool().Draw(m.T, "roll back")
	m.Logf("create in a transaction %s", offered(tasks))
	var refused error
	err := m.s.Update(m.ctx, func(tx *bbolt.Tx) error {
		if refused = m.s.Create(bolt.WithTx(m.ctx, tx), tasks); refused != nil {
			return refused
		}
		if rollBack {
			return errNo
		}
		return nil
	})
	if refused == nil && rollBack {
		m.same("transaction", err, errNo)
		return
	}
	m.created(tasks, model, refused)
}

// claim claims all there is, so that the order does not matter.
func (m *machine) claim() {
	time.Sleep(time.Until(m.dueBy))
	req := outbox.ClaimRequest{Max: 10_000, Lease: outbox.MaxLease}
	expired, dead := m.stats(m.s).DroppedBy.Expired, m.stats(m.s).Dead
	var lists [2][]outbox.Task
	for i, s := range []outbox.Store{m.s, m.model} {
		for { // a retry that is due, but not yet durable, comes when nothing else is left
			got, err := s.Claim(m.ctx, req)
			m.ok("claim", err)
			if len(got.Tasks) == 0 {
				break
			}
			lists[i] = append(lists[i], got.Tasks...)
		}
		slices.SortFunc(lists[i], func(a, b outbox.Task) int { return a.ID.Compare(b.ID) })
	}
	m.same("claim", describe(lists[0]), describe(lists[1]))
	m.Logf("claimed: %s", namesOf(lists[0]))
	for i, t := range lists[0] {
		m.tokens[t.ID] = [2]uint64{t.Token, lists[1][i].Token}
	}
	if st := m.stats(m.s); st.DroppedBy.Expired != expired || st.Dead != dead {
		m.sync() // or a crash brings them back, to be dropped again, or to be parked
	}
}

func describe(tasks []outbox.Task) string {
	var lines []string
	for _, t := range tasks {
		var failures []string
		for _, f := range t.Failures {
			failures = append(failures, fmt.Sprint(f.Attempt, f.Error))
		}
		lines = append(lines, fmt.Sprintf("%s %s of %d bytes (%08x) key %q unique %q latest %q attempts %d (%d) of %d failures %v reason %q",
			t.Name, t.State, len(t.Payload), crc32.ChecksumIEEE(t.Payload), t.Key, t.Unique, t.LatestOnly, t.Attempts, t.Attempt, t.MaxAttempts, failures, t.Reason))
	}
	return strings.Join(lines, "\n\t\t")
}

// flying is what is in flight, in order.
func (m *machine) flying() []outbox.ID {
	return slices.SortedFunc(maps.Keys(m.tokens), outbox.ID.Compare)
}

func (m *machine) settle() {
	outcomes := map[outbox.ID]outbox.Outcome{}
	for _, id := range m.flying() {
		o := outbox.Outcome{Verdict: outbox.Verdict(rapid.IntRange(0, 4).Draw(m.T, "verdict of "+m.known[id].Name))}
		switch o.Verdict {
		case 0:
			continue // later
		case outbox.Retry:
			o.Delay, o.Failure = m.anyDelay(), outbox.Failure{At: time.Now(), Attempt: 1, Error: "busy"}
		case outbox.Release:
			o.Delay = min(m.anyDelay(), soon) // a restart ends it, but the model's stays
		case outbox.Bury:
			o.Reason, o.Failure = outbox.ReasonPermanent, outbox.Failure{At: time.Now(), Attempt: 1, Error: "no"}
		}
		if rapid.IntRange(0, 11).Draw(m.T, "wrong token") == 11 {
			o.Token = 1
		}
		outcomes[id] = o
	}
	m.settleBoth(outcomes)
}

func (m *machine) settleBoth(outcomes map[outbox.ID]outbox.Outcome) {
	var lists [2][]outbox.Outcome
	for _, id := range slices.SortedFunc(maps.Keys(outcomes), outbox.ID.Compare) {
		for i := range lists {
			o := outcomes[id]
			o.ID, o.Token = id, m.tokens[id][i]+o.Token<<32
			lists[i] = append(lists[i], o)
			if i == 0 {
				m.Logf("settle %s: verdict %d delay %v token %x", m.known[id].Name, o.Verdict, o.Delay, o.Token)
			}
		}
		if outcomes[id].Token == 0 {
			delete(m.tokens, id)
		}
	}
	m.before = append(m.before, m.model.Reopened())
	m.same("settle", sentinel(m.s.Settle(m.ctx, lists[0])), sentinel(m.model.Settle(m.ctx, lists[1])))
	m.later()
}

// listed is what the model holds.
func (m *machine) listed() (ids []outbox.ID) {
	for t, err := range m.model.Tasks(m.ctx, outbox.Filter{}) {
		m.ok("list", err)
		ids = append(ids, t.ID)
	}
	return ids
}

// some picks up to three of them.
func (m *machine) some() (ids []outbox.ID) {
	listed := m.listed()
	if len(listed) == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(listed), 1, min(3, len(listed)), rapid.ID).Draw(m.T, "some")
}

func (m *machine) requeue() {
	ids := m.some()
	n, err := m.s.Requeue(m.ctx, ids...)
	want, wantErr := m.model.Requeue(m.ctx, ids...)
	m.same("requeue", fmt.Sprint(n, sentinel(err)), fmt.Sprint(want, sentinel(wantErr)))
	m.before = nil
}

func (m *machine) remove() {
	ids := m.some()
	n, err := m.s.Delete(m.ctx, ids...)
	want, wantErr := m.model.Delete(m.ctx, ids...)
	m.same("delete", fmt.Sprint(n, sentinel(err)), fmt.Sprint(want, sentinel(wantErr)))
	m.before = nil
}

// filter lists some of what is there. The zero state stands for all.
func (m *machine) filter() {
	if m.late {
		m.claim() // or the store has more, which comes and goes
	}
	f := outbox.Filter{
		Key:   rapid.SampledFrom([]string{"", "a", "bb"}).Draw(m.T, "of key"),
		Limit: rapid.IntRange(0, 3).Draw(m.T, "limit"),
		States: rapid.SampledFrom([][]outbox.State{nil, {outbox.Waiting}, {outbox.InFlight}, {outbox.Dead}, {outbox.Dead, outbox.Waiting}}).
			Draw(m.T, "states"),
	}
	if ids := m.listed(); len(ids) > 0 && rapid.Bool().Draw(m.T, "after one") {
		f.After = rapid.SampledFrom(ids).Draw(m.T, "after")
	}
	if m.compare(m.model, true); m.late {
		return // it stands behind another
	}
	m.same("filtered", describe(m.list(m.s, f)), describe(m.list(m.model, f)))
	m.before = nil
}

func (m *machine) list(s outbox.Store, f outbox.Filter) (tasks []outbox.Task) {
	m.Helper()
	for t, err := range s.Tasks(m.ctx, f) {
		m.ok("list", err)
		t.Attempt = 0
		tasks = append(tasks, t)
	}
	return tasks
}

func (m *machine) stats(s outbox.Store) outbox.Stats {
	m.Helper()
	st, err := s.Stats(m.ctx)
	m.ok("stats", err)
	return outbox.Stats{
		Accepted: st.Accepted, Delivered: st.Delivered, Pending: st.Pending, InFlight: st.InFlight,
		Dead: st.Dead, Dropped: st.Dropped, DroppedBy: st.DroppedBy, Requeued: st.Requeued,
	}
}

// reopen closes the store: nothing may be taken back (P3).
func (m *machine) reopen() {
	m.ok("close", m.s.Close())
	m.before = nil
	m.open()
	m.model = m.model.Reopened()
	m.compare(m.model, true)
	m.audit()
}

// crash turns the power off: of the log is left what was synced, and some of what
// was not; the database is as it is at this moment, in which nobody commits. What
// was settled and not synced may be lost, the latest first, and nothing else.
func (m *machine) crash() {
	var database []byte
	var disk *waltest.FS
	var err error
	m.s.Freeze(func() {
		disk = m.disk.Crash(m.disk.Ops(), rapid.SampledFrom([]uint64{0, 1, 2, 3, 5}).Draw(m.T, "left of the log"))
		database, err = os.ReadFile(filepath.Join(m.dir, "outbox.db"))
	})
	m.ok("copy", err)
	m.ok("close", m.s.Close())
	m.ok("copy", os.WriteFile(filepath.Join(m.dir, "outbox.db"), database, 0o600))
	m.disk = disk
	m.open()
	m.audit()
	var differ []string
	for _, model := range append(m.before, m.model.Reopened()) {
		diff := m.difference(model, true)
		if diff == "" {
			m.model, m.before = model, nil
			return
		}
		differ = append(differ, diff)
	}
	m.Fatalf("after a crash the store is like none of %d states that it may be in; the last:\n%s", len(differ), differ[len(differ)-1])
}

// check compares after every step, at least the counters. A listing would make
// durable what was settled, and hide that something else is not.
func (m *machine) check(t *rapid.T) {
	m.T = t
	if !m.s.Unsynced() && rapid.Bool().Draw(t, "list") {
		m.compare(m.model, true)
		return
	}
	// What is late only moves a task from pending to dropped.
	got, want := m.stats(m.s), m.stats(m.model)
	late := got.Pending - want.Pending
	m.late = late > 0
	if late == want.DroppedBy.Coalesced-got.DroppedBy.Coalesced {
		got.Pending, got.Dropped, got.DroppedBy.Coalesced = want.Pending, want.Dropped, want.DroppedBy.Coalesced
	}
	m.same("stats", got, want)
}

// compare compares all that can be seen.
func (m *machine) compare(model *mem.Store, allowLate bool) {
	m.Helper()
	if diff := m.difference(model, allowLate); diff != "" {
		m.Fatalf("%s", diff)
	}
}

// difference says in what store and model differ. A task that the model has dropped
// as replaced may be on its way out of the store, if that is allowed.
func (m *machine) difference(model *mem.Store, allowLate bool) string {
	m.Helper()
	got, want := m.stats(m.s), m.stats(model)
	if got.Accepted != got.Delivered+got.Pending+got.InFlight+got.Dead+got.Dropped {
		return fmt.Sprintf("P5: %+v", got)
	}
	lists := [2][]outbox.Task{m.list(m.s, outbox.Filter{}), m.list(model, outbox.Filter{})}
	m.late = false
	lists[0] = slices.DeleteFunc(lists[0], func(t outbox.Task) bool {
		there := slices.ContainsFunc(lists[1], func(o outbox.Task) bool { return o.ID == t.ID })
		late := allowLate && !there && t.LatestOnly != "" && t.State == outbox.Waiting
		if late {
			m.late = true
			got.Pending--
			got.Dropped++
			got.DroppedBy.Coalesced++
		}
		return late
	})
	if a, b := describe(lists[0]), describe(lists[1]); a != b {
		return fmt.Sprintf("listing:\n\tstore\t%s\n\tmodel\t%s", a, b)
	}
	if got != want {
		return fmt.Sprintf("stats:\n\tstore %+v\n\tmodel %+v", got, want)
	}
	return ""
}
