package bolt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// cost is what the comment of WithMaxBytes says that a task costs.
func cost(t outbox.Task) int64 {
	text := func(n int) int { return len(binary.AppendUvarint(nil, uint64(n))) + n }
	n := 54 + text(len(t.Name)) + text(len(t.Key)) + text(len(t.ContentType)) + text(len(t.Unique)) + text(len(t.LatestOnly))
	n += len(binary.AppendUvarint(nil, uint64(len(t.Headers)))) + text(len(t.Payload))
	for name, value := range t.Headers {
		n += text(len(name)) + text(len(value))
	}
	n += 98 + len(t.Name)
	for _, key := range []string{t.Key, t.Unique, t.LatestOnly} {
		if key != "" {
			n += len(key) + 48
		}
	}
	return int64(n)
}

// limits are quotas; 0 is none.
type limits struct{ tasks, bytes int64 }

func (l limits) over(tasks, bytes int64) bool {
	return l.tasks > 0 && tasks > l.tasks || l.bytes > 0 && bytes > l.bytes
}

// quotaLife is a store with quotas that does random things, beside a naive model: what
// a listing says, and what must follow from it.
type quotaLife struct {
	t       *testing.T
	s       *bolt.Store
	dir     string
	opts    []bolt.Option
	random  *rand.Rand
	policy  bolt.Overflow
	max     limits
	maxDead limits
	made    int
	flying  []outbox.Task
	met     map[string]int // how often what was seen
}

func (q *quotaLife) open() {
	q.max = limits{int64(q.random.IntN(2) * (1 + q.random.IntN(25))), int64(q.random.IntN(3)) * 600_000}
	if q.max.bytes > 0 {
		q.max.bytes = max(q.max.bytes, 1<<20)
	}
	q.maxDead = limits{int64(q.random.IntN(2) * (1 + q.random.IntN(6))), int64(q.random.IntN(2) * 200_000)}
	opts := append(slices.Clone(q.opts), bolt.WithMaxTasks(int(q.max.tasks)), bolt.WithMaxBytes(q.max.bytes), bolt.WithOverflow(q.policy),
		bolt.WithMaxDead(int(q.maxDead.tasks), q.maxDead.bytes))
	q.s = open(q.t, q.dir, opts...)
}

// list is what is there, by ID.
func (q *quotaLife) list() (all []outbox.Task) {
	q.t.Helper()
	for task, err := range q.s.Tasks(q.t.Context(), outbox.Filter{}) {
		require.NoError(q.t, err)
		all = append(all, task)
	}
	return all
}

func used(all []outbox.Task, dead bool) (tasks, bytes int64) {
	for _, one := range all {
		if (one.State == outbox.Dead) == dead {
			tasks++
			bytes += cost(one)
		}
	}
	return tasks, bytes
}

func ids(all []outbox.Task) string {
	text := ""
	for _, one := range all {
		text += fmt.Sprint(one.Name, " ", one.State, ", ")
	}
	return text
}

func (q *quotaLife) batch(tx bool) []outbox.Task {
	list := make([]outbox.Task, 1+q.random.IntN(4))
	for i := range list {
		size := q.random.IntN(120_000)
		if q.random.IntN(30) == 0 {
			size = 600_000
		}
		t := outbox.Task{Event: outbox.Event{Name: fmt.Sprint("t", q.made), Payload: make([]byte, size)}, MaxAttempts: 3}
		q.made++
		t.Key = []string{"", "", "a", "bb"}[q.random.IntN(4)]
		if q.random.IntN(4) == 0 {
			t.Delay = time.Hour
		}
		if q.random.IntN(4) == 0 {
			t.Headers = map[string]string{"h": "value"}
		}
		switch n := q.random.IntN(12); {
		case n < 2:
			t.Unique = []string{"u", "uu"}[n]
		case n < 6 && !tx:
			t.LatestOnly = []string{"l", "ll"}[n%2]
		}
		list[i] = t
	}
	return list
}

// expect says what must become of a batch.
func (q *quotaLife) expect(before, batch []outbox.Task, tx bool) (replaced, victims []string, want error) {
	var grossTasks, grossBytes int64
	for _, one := range batch {
		grossTasks++
		grossBytes += cost(one)
	}
	if q.max.over(grossTasks, grossBytes) {
		return nil, nil, outbox.ErrTooLarge
	}
	tasks, bytes := used(before, false)
	needTasks, needBytes := grossTasks, grossBytes
	all := slices.Clone(before)
	for _, one := range batch {
		var holder *outbox.Task
		for i := range all {
			other := &all[i]
			if other.State == outbox.Dead {
				continue
			}
			if one.Unique != "" && other.Unique == one.Unique {
				return nil, nil, outbox.ErrDuplicate
			}
			if one.LatestOnly != "" && other.LatestOnly == one.LatestOnly {
				holder = other // the newest
			}
		}
		if holder != nil && holder.State == outbox.Waiting {
			replaced = append(replaced, holder.Name)
			needTasks--
			needBytes -= cost(*holder)
		}
		all = append(all, one)
	}
	short := func() bool {
		return needTasks > 0 && limits{tasks: q.max.tasks}.over(tasks+needTasks, 0) || needBytes > 0 && limits{bytes: q.max.bytes}.over(0, bytes+needBytes)
	}
	if !short() {
		return replaced, nil, nil
	}
	if q.policy != bolt.DropOldest {
		return nil, nil, outbox.ErrFull
	}
	// In a transaction, what it accepted itself may go as well.
	droppable := before
	if tx {
		droppable = all
		tasks, bytes, needTasks, needBytes = tasks+needTasks, bytes+needBytes, 0, 0
		short = func() bool { return q.max.over(tasks, bytes) }
	}
	for _, one := range droppable {
		if !short() {
			break
		}
		if one.State == outbox.Waiting && !slices.Contains(replaced, one.Name) {
			victims = append(victims, one.Name)
			tasks--
			bytes -= cost(one)
		}
	}
	if short() && !tx {
		return nil, nil, outbox.ErrFull
	}
	return replaced, victims, nil
}

func (q *quotaLife) create() {
	before, batch := q.list(), q.batch(false)
	replaced, victims, want := q.expect(before, batch, false)
	ctx := q.t.Context()
	if want == outbox.ErrFull && q.policy == bolt.Block {
		waits, cancel := context.WithCancel(ctx)
		ctx = waits
		var canceler sync.WaitGroup
		defer canceler.Wait()
		canceler.Go(func() { // as soon as it waits
			for waits.Err() == nil {
				if q.s.Waiters() > 0 {
					cancel()
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
		defer cancel()
	}
	err := q.s.Create(ctx, batch)
	require.ErrorIs(q.t, err, want, "%v\nbatch %s\nbefore %s", q.max, ids(batch), ids(before))
	if want == outbox.ErrFull && q.policy == bolt.Block {
		require.ErrorIs(q.t, err, context.Canceled)
	}
	q.met[fmt.Sprint("create ", want)]++
	q.met["dropped"] += len(victims)
	q.met["replaced"] += len(replaced)
	if want != nil {
		batch = nil
	}
	q.require(before, batch, append(replaced, victims...))
}

// require checks what is there against what was, what came and what went.
func (q *quotaLife) require(before, came []outbox.Task, went []string) {
	q.t.Helper()
	expected := slices.DeleteFunc(append(slices.Clone(before), came...), func(one outbox.Task) bool { return slices.Contains(went, one.Name) })
	require.Equal(q.t, ids(expected), ids(q.list()), "policy %d, quota %v, before %s", q.policy, q.max, ids(before))
}

func (q *quotaLife) createInTx() {
	before, batch := q.list(), q.batch(true)
	_, victims, want := q.expect(before, batch, true)
	commit := q.random.IntN(3) > 0
	err := q.s.Update(q.t.Context(), func(tx *bbolt.Tx) error {
		if err := q.s.Create(bolt.WithTx(q.t.Context(), tx), batch); err != nil || commit {
			return err
		}
		return errNo
	})
	if want == nil && !commit {
		want = errNo
	}
	require.ErrorIs(q.t, err, want)
	q.met[fmt.Sprint("in tx ", want)]++
	if want != nil {
		q.require(before, nil, nil)
		return
	}
	q.met["dropped after tx"] += len(victims)
	expected := slices.DeleteFunc(append(slices.Clone(before), batch...), func(one outbox.Task) bool { return slices.Contains(victims, one.Name) })
	require.Eventually(q.t, func() bool { return ids(expected) == ids(q.list()) }, 30*time.Second, time.Millisecond,
		"want %s", ids(expected))
}

// settle settles some of what is in flight, and waits until the quota of the dead is
// kept again.
func (q *quotaLife) settle() {
	before := q.list()
	buried := map[outbox.ID]bool{}
	var outcomes []outbox.Outcome
	q.flying = slices.DeleteFunc(q.flying, func(one outbox.Task) bool {
		if q.random.IntN(2) == 0 {
			return false
		}
		o := outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: outbox.Verdict(1 + q.random.IntN(4)), Reason: outbox.ReasonPermanent}
		if o.Verdict == outbox.Bury {
			buried[one.ID] = true
		}
		outcomes = append(outcomes, o)
		return true
	})
	require.NoError(q.t, q.s.Settle(q.t.Context(), outcomes))
	if len(buried) == 0 {
		return
	}
	for i := range before {
		if buried[before[i].ID] {
			before[i].State = outbox.Dead
		}
	}
	want := slices.DeleteFunc(before, func(one outbox.Task) bool { return one.State != outbox.Dead })
	for tasks, bytes := used(want, true); tasks > 1 && q.maxDead.over(tasks, bytes); tasks, bytes = used(want, true) {
		want = want[1:]
		q.met["dead dropped"]++
	}
	require.NoError(q.t, q.s.Sync())
	require.Eventually(q.t, func() bool {
		return ids(want) == ids(slices.DeleteFunc(q.list(), func(one outbox.Task) bool { return one.State != outbox.Dead }))
	}, 30*time.Second, time.Millisecond, "want %s", ids(want))
}

func (q *quotaLife) reopen() {
	require.NoError(q.t, q.s.Sync())
	before := stats(q.t, q.s)
	if q.random.IntN(2) == 0 {
		dir := q.t.TempDir()
		q.s.Freeze(func() { copyDir(q.t, q.dir, dir) })
		require.NoError(q.t, q.s.Close())
		q.dir = dir
	} else {
		require.NoError(q.t, q.s.Close())
	}
	q.open()
	after := stats(q.t, q.s)
	require.Equal(q.t, before.PendingBytes, after.PendingBytes)
	require.Equal(q.t, before.DeadBytes, after.DeadBytes)
	require.Equal(q.t, before.DroppedBy, after.DroppedBy)
	// What was replaced while it was in flight is dropped by a claim.
	got := claim(q.t, q.s, 1000)
	outcomes := make([]outbox.Outcome, len(got))
	for i, one := range got {
		outcomes[i] = outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: outbox.Release}
	}
	require.NoError(q.t, q.s.Settle(q.t.Context(), outcomes))
	q.flying = nil
}

func (q *quotaLife) some(state outbox.State) (some []outbox.ID) {
	for _, one := range q.list() {
		if one.State == state && q.random.IntN(3) == 0 {
			some = append(some, one.ID)
		}
	}
	return some
}

func (q *quotaLife) step() {
	switch n := q.random.IntN(100); {
	case n < 40:
		q.create()
	case n < 50:
		q.createInTx()
	case n < 60:
		q.flying = append(q.flying, claim(q.t, q.s, 1+q.random.IntN(6))...)
	case n < 80:
		q.settle()
	case n < 83:
		_, err := q.s.Requeue(q.t.Context(), q.some(outbox.Dead)...)
		if !errors.Is(err, outbox.ErrDuplicate) {
			require.NoError(q.t, err)
		}
	case n < 86:
		_, err := q.s.Delete(q.t.Context(), q.some(outbox.State(2*q.random.IntN(2)))...)
		require.NoError(q.t, err)
	case n < 92:
		require.NoError(q.t, q.s.Flush())
	case n < 95:
		require.NoError(q.t, q.s.Lighten())
	default:
		q.reopen()
	}
	usageIsRight(q.t, q.s)
	all, st := q.list(), stats(q.t, q.s)
	_, bytes := used(all, false)
	require.EqualValues(q.t, bytes, st.PendingBytes)
	_, bytes = used(all, true)
	require.EqualValues(q.t, bytes, st.DeadBytes)
}

// Quotas do what their comments say, whatever else happens, and the usage equals a
// recount at every step.
func TestQuota_Model(t *testing.T) {
	rounds, steps := 1, 120
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		rounds, steps = 40, 400
	}
	for policy, name := range []string{"reject", "block", "drop oldest"} {
		for _, overlay := range []string{"", ", tiny overlay"} {
			for range rounds {
				seed := rand.Uint64()
				t.Run(fmt.Sprint(name, overlay, ", seed ", seed), func(t *testing.T) {
					t.Parallel()
					q := &quotaLife{t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(seed, seed)), policy: bolt.Overflow(policy), met: map[string]int{}}
					if overlay != "" {
						q.opts = []bolt.Option{bolt.WithOverlay(8, 1000), bolt.WithSegmentBytes(256 << 10)}
					}
					q.open()
					for range steps {
						q.step()
					}
					t.Log(q.met)
				})
			}
		}
	}
}
