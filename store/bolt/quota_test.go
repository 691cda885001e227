package bolt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/storetest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func bury(t *testing.T, s outbox.Store, list ...outbox.Task) {
	t.Helper()
	outcomes := make([]outbox.Outcome, len(list))
	for i, one := range list {
		outcomes[i] = outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: outbox.Bury, Reason: outbox.ReasonPermanent}
	}
	require.NoError(t, s.Settle(t.Context(), outcomes))
}

func retry(t *testing.T, s outbox.Store, one outbox.Task) {
	t.Helper()
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: one.ID, Token: one.Token, Verdict: outbox.Retry}}))
}

// unsynced leaves out what tells of the disk.
func unsynced(st outbox.Stats) outbox.Stats {
	st.Syncs, st.SyncedRecords, st.BytesWritten, st.Checkpoints = 0, 0, 0, 0
	st.DatabaseBytes, st.LogBytes = 0, 0
	st.LastCheckpoint, st.Recovery = time.Time{}, outbox.Recovery{}
	return st
}

// The text of ErrFull says which quota, how much is used and how much was asked for.
func TestQuota_Text(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(3), bolt.WithMaxBytes(1)) // 1 MiB is the least
	create(t, s, tasks(0, 2)...)
	err := s.Create(t.Context(), tasks(2, 2))
	require.ErrorIs(t, err, outbox.ErrFull)
	require.EqualError(t, err, "outbox: full: 2 of 3 events are there, and 2 more are asked for: have events delivered, delete some, or raise the quota")
	require.Len(t, names(t, s), 2, "all or none")

	large := tasks(2, 1)
	large[0].Payload = make([]byte, 1<<20-1000)
	err = s.Create(t.Context(), large)
	require.ErrorIs(t, err, outbox.ErrFull)
	require.ErrorContains(t, err, "of 1048576 bytes are used, and ")
	require.NotContains(t, err.Error(), "events are there")

	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block, bolt.DropOldest} {
		s := open(t, t.TempDir(), bolt.WithMaxTasks(3), bolt.WithMaxBytes(1), bolt.WithOverflow(policy))
		err = s.Create(t.Context(), tasks(2, 4))
		require.ErrorIs(t, err, outbox.ErrTooLarge)
		require.ErrorContains(t, err, "4 events at once, the quota is 3")
		large[0].Payload = make([]byte, 1<<20)
		err = s.Create(t.Context(), large)
		require.ErrorIs(t, err, outbox.ErrTooLarge)
		require.ErrorContains(t, err, "the quota is 1048576")
		require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
			require.ErrorIs(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(2, 4)), outbox.ErrTooLarge)
			return nil
		}))
		require.Empty(t, names(t, s))
	}
}

// Producers and consumers at once, with every policy: the quota is never exceeded, not
// even for a moment, nobody waits for ever, and nothing is lost that was not dropped.
func TestQuota_Concurrent(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block, bolt.DropOldest} {
		for _, most := range []int{4, 100} {
			t.Run([]string{"reject", "block", "drop oldest"}[policy], func(t *testing.T) {
				t.Parallel()
				testConcurrent(t, policy, most)
			})
		}
	}
}

func testConcurrent(t *testing.T, policy bolt.Overflow, most int) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(most), bolt.WithMaxBytes(1), bolt.WithOverflow(policy),
		bolt.WithOverlay(16, 1000), bolt.WithSegmentBytes(64<<10), bolt.WithAckSync(time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var producers, others sync.WaitGroup
	var accepted, delivered atomic.Int64
	over := make(chan struct{})
	for p := range 6 {
		producers.Go(func() {
			for range 60 {
				list := tasks(0, 1+p%4)
				switch err := s.Create(ctx, list); {
				case err == nil:
					accepted.Add(int64(len(list)))
				case policy == bolt.Block:
					t.Errorf("block: %v", err)
					return
				case !errors.Is(err, outbox.ErrFull):
					t.Errorf("create: %v", err)
					return
				}
			}
		})
	}
	for range 2 {
		others.Go(func() {
			for {
				got, err := s.Claim(ctx, outbox.ClaimRequest{Max: 3, Lease: time.Minute})
				if err != nil {
					t.Errorf("claim: %v", err)
					return
				}
				for _, one := range got.Tasks {
					if err := s.Settle(ctx, []outbox.Outcome{{ID: one.ID, Token: one.Token, Verdict: outbox.Done}}); err != nil {
						t.Errorf("settle: %v", err)
						return
					}
					delivered.Add(1)
				}
				if len(got.Tasks) == 0 {
					select {
					case <-over:
						return
					case <-time.After(time.Millisecond):
					}
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
			tasks, bytes := s.Used()
			if tasks > int64(most) || bytes > 1<<20 {
				t.Errorf("%d tasks, %d bytes", tasks, bytes)
			}
		}
	})
	producers.Wait()
	close(over)
	others.Wait()
	if t.Failed() {
		return
	}
	require.NoError(t, s.Sync())
	for got := claim(t, s, 100); len(got) > 0; got = claim(t, s, 100) {
		done(t, s, got...)
		delivered.Add(int64(len(got)))
	}
	st := stats(t, s)
	require.EqualValues(t, accepted.Load(), st.Accepted)
	require.EqualValues(t, delivered.Load(), st.Delivered)
	require.Equal(t, st.Dropped, st.DroppedBy.Quota)
	require.True(t, policy == bolt.DropOldest || st.Dropped == 0)
	usageIsRight(t, s)
}

// A batch that waits gets its turn: what comes later waits behind it.
func TestQuota_Block_NoStarvation(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(10), bolt.WithOverflow(bolt.Block))
	create(t, s, tasks(0, 10)...)
	flying := claim(t, s, 10)
	order := make(chan string, 3)
	go func() { order <- createErr(s, t.Context(), tasks(10, 8), "batch") }()
	await(t, func() bool { return s.Waiters() == 1 })
	go func() { order <- createErr(s, t.Context(), tasks(18, 1), "small") }()
	await(t, func() bool { return s.Waiters() == 2 })
	done(t, s, flying[:7]...)
	require.Equal(t, 2, s.Waiters(), "there is room for the small one, but not for who came first")
	go func() { order <- createErr(s, t.Context(), tasks(19, 1), "late") }()
	await(t, func() bool { return s.Waiters() == 3 })
	done(t, s, flying[7])
	require.Equal(t, "batch", <-order)
	require.Equal(t, 2, s.Waiters())
	done(t, s, flying[8])
	require.Equal(t, "small", <-order)
	require.Equal(t, 1, s.Waiters())
	done(t, s, claim(t, s, 1)...)
	require.Equal(t, "late", <-order)
	require.Zero(t, s.Waiters())

	// Who gives up makes way for those behind.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { order <- createErr(s, ctx, tasks(20, 5), "batch") }()
	await(t, func() bool { return s.Waiters() == 1 })
	go func() { order <- createErr(s, t.Context(), tasks(25, 1), "small") }()
	await(t, func() bool { return s.Waiters() == 2 })
	done(t, s, flying[9])
	require.Equal(t, 2, s.Waiters())
	cancel()
	texts := []string{<-order, <-order}
	require.Contains(t, texts, "small")
	require.Contains(t, texts[0]+texts[1], "outbox: full: 9 of 10 events are there, and 5 more are asked for: have events delivered, delete some, or raise the quota: waited for room: context canceled")
	usageIsRight(t, s)
}

// createErr returns name if the tasks were accepted, or why they were not.
func createErr(s outbox.Store, ctx context.Context, list []outbox.Task, name string) string {
	if err := s.Create(ctx, list); err != nil {
		return err.Error()
	}
	return name
}

// await waits for what must happen.
func await(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 30*time.Second, time.Millisecond)
}

// Who waits is told when the store closes.
func TestQuota_Block_Close(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(1), bolt.WithOverflow(bolt.Block))
	create(t, s, tasks(0, 1)...)
	failed := make(chan error)
	go func() { failed <- s.Create(context.Background(), tasks(1, 1)) }()
	await(t, func() bool { return s.Waiters() == 1 })
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, outbox.ErrClosed)
}

// A LatestOnly event that takes the place of another needs no room.
func TestQuota_LatestOnly(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block, bolt.DropOldest} {
		s := open(t, t.TempDir(), bolt.WithMaxTasks(2), bolt.WithOverflow(policy))
		latest := func(name string) outbox.Task { return outbox.Task{Event: outbox.Event{Name: name}, LatestOnly: "l"} }
		create(t, s, latest("1"), outbox.Task{Event: outbox.Event{Name: "other"}})
		create(t, s, latest("2"))
		require.NoError(t, s.Flush())
		create(t, s, latest("3"))
		require.Equal(t, []string{"other", "3"}, names(t, s))
		require.Zero(t, stats(t, s).DroppedBy.Quota)
		usageIsRight(t, s)
	}
}

// What goes anyway is no victim: if the only other task is in flight there is no room
// for a LatestOnly event that costs more than the one that it replaces.
func TestQuota_LatestOnly_NoVictim(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxBytes(1), bolt.WithOverflow(bolt.DropOldest))
	large := func(name, latest string, size int) outbox.Task {
		return outbox.Task{Event: outbox.Event{Name: name, Payload: make([]byte, size)}, LatestOnly: latest}
	}
	create(t, s, large("flies", "", 700<<10))
	claim(t, s, 1)
	create(t, s, large("1", "l", 200<<10))
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{large("2", "l", 400<<10)}), outbox.ErrFull)
	require.Equal(t, []string{"flies", "1"}, names(t, s))
	usageIsRight(t, s)
}

// A store that holds more than its quota opens, publishes, and accepts again when it
// has drained; with DropOldest it drops at the first event.
func TestQuota_OpenedOver(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block, bolt.DropOldest} {
		dir := t.TempDir()
		s := open(t, dir)
		create(t, s, tasks(0, 5000)...)
		require.NoError(t, s.Close())
		s = open(t, dir, bolt.WithMaxTasks(1000), bolt.WithOverflow(policy))
		usageIsRight(t, s)
		flying := claim(t, s, 10)
		require.Len(t, flying, 10)
		if policy == bolt.DropOldest {
			create(t, s, tasks(5000, 1)...)
			st := stats(t, s)
			require.EqualValues(t, 1000, st.Pending+st.InFlight)
			require.EqualValues(t, 4001, st.DroppedBy.Quota)
			left := names(t, s)
			require.Equal(t, "n000009", left[9], "what is in flight stays")
			require.Equal(t, "n004011", left[10])
			done(t, s, flying...)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		require.ErrorIs(t, s.Create(ctx, tasks(5000, 1)), outbox.ErrFull)
		cancel()
		done(t, s, flying...)
		for stats(t, s).Pending > 1000 {
			done(t, s, claim(t, s, 10)...)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		require.ErrorIs(t, s.Create(ctx, tasks(5000, 1)), outbox.ErrFull)
		cancel()
		done(t, s, claim(t, s, 1)...)
		create(t, s, tasks(5000, 1)...)
		usageIsRight(t, s)
	}
}

// The oldest goes, whatever its class.
func TestQuota_DropOldest_Classes(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(2), bolt.WithOverflow(bolt.DropOldest))
	for name, class := range map[string]outbox.Priority{"alarm": outbox.High, "log": outbox.Low} {
		old, more := named(name), named("more")
		old.Priority, more.Priority = class, -class
		create(t, s, old)
		create(t, s, more)
		create(t, s, more)
		require.Equal(t, []string{"more", "more"}, names(t, s))
	}
}

// Where more has to go than is looked at at once, and it would not be enough, nobody
// goes: what is replaced anyway, or in flight, makes no room.
func TestQuota_DropOldest_Enough(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	large := func(name, latest string, size int) outbox.Task {
		return outbox.Task{Event: outbox.Event{Name: name, Payload: make([]byte, size)}, LatestOnly: latest}
	}
	create(t, s, large("flies", "", 700<<10))
	for i := range 20 {
		create(t, s, large("small", "", 1000+i))
	}
	create(t, s, large("1", "l", 300<<10))
	require.NoError(t, s.Close())
	s = open(t, dir, bolt.WithMaxBytes(1), bolt.WithOverflow(bolt.DropOldest), bolt.WithOverlay(8, 1000))
	claim(t, s, 1)
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{large("2", "l", 400<<10)}), outbox.ErrFull)
	require.Len(t, names(t, s), 22)
	create(t, s, large("2", "l", 310<<10))
	require.Equal(t, "2", names(t, s)[len(names(t, s))-1])
	usageIsRight(t, s)
}

// A transaction's events hold room until it is rolled back, also where nobody tells.
func TestQuota_Tx(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Reject, bolt.Block} {
		dir := t.TempDir()
		db := openDB(t, filepath.Join(dir, "app.db"), nil)
		s, err := bolt.Attach(db, dir, quiet, bolt.WithMaxTasks(3), bolt.WithOverflow(policy))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		tx, err := db.Begin(true)
		require.NoError(t, err)
		ctx := bolt.WithTx(t.Context(), tx)
		require.NoError(t, s.Create(ctx, tasks(0, 2)))
		require.ErrorIs(t, s.Create(ctx, tasks(2, 2)), outbox.ErrFull, "within the transaction")
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		require.ErrorIs(t, s.Create(short, tasks(2, 2)), outbox.ErrFull, "outside of it")
		cancel()
		create(t, s, tasks(4, 1)...)
		require.NoError(t, tx.Rollback())
		await(t, func() bool {
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return s.Create(short, tasks(5, 2)) == nil
		})
		require.Equal(t, []string{"n000004", "n000005", "n000006"}, names(t, s))
		usageIsRight(t, s)
	}
}

// A transaction of Update that was rolled back holds no room when Update has returned.
func TestQuota_Update(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(3))
	require.ErrorIs(t, inTx(t, s, errNo, tasks(0, 2)...), errNo)
	create(t, s, tasks(2, 3)...)
	done(t, s, claim(t, s, 3)...)
	require.NoError(t, inTx(t, s, nil, tasks(5, 3)...))
	require.ErrorIs(t, s.Create(t.Context(), tasks(8, 1)), outbox.ErrFull)
	usageIsRight(t, s)
}

// An event of a transaction that is committed late is as old as its ID says.
func TestQuota_Tx_DropOldest(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(3), bolt.WithOverflow(bolt.DropOldest))
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 1)))
		create(t, s, tasks(1, 3)...)
		create(t, s, tasks(4, 1)...)
		require.Equal(t, []string{"n000002", "n000003", "n000004"}, names(t, s), "nothing is dropped for what may be rolled back")
		return nil
	}))
	await(t, func() bool { return stats(t, s).DroppedBy.Quota == 2 })
	require.Equal(t, []string{"n000002", "n000003", "n000004"}, names(t, s))
	usageIsRight(t, s)
}

// When the disk is full nothing is dropped for what is not accepted, and what was
// counted for records that failed is taken back (P9).
func TestQuota_DiskFull(t *testing.T) {
	dir := t.TempDir()
	disk := logDisk(t, dir)
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithMaxTasks(8), bolt.WithOverflow(bolt.DropOldest), bolt.WithSegmentBytes(64<<10),
		bolt.WithAckSync(time.Hour), bolt.WithMaxDead(10, 0))
	create(t, s, tasks(0, 4)...)
	bury(t, s, claim(t, s, 2)...)
	require.NoError(t, s.Flush())
	create(t, s, tasks(4, 6)...)
	before := unsynced(stats(t, s))
	flying := claim(t, s, 4)
	done(t, s, flying[0])
	bury(t, s, flying[1])
	retry(t, s, flying[2])
	large := append(tasks(10, 3), outbox.Task{Event: outbox.Event{Name: "l"}, LatestOnly: "l"}, outbox.Task{Event: outbox.Event{Name: "l"}, LatestOnly: "l"})
	large[0].Payload = make([]byte, 300<<10) // needs a segment of its own, for which there is no room
	disk.SetFree(0)
	require.ErrorIs(t, s.Create(t.Context(), large), outbox.ErrDiskFull)
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: flying[3].ID, Token: flying[3].Token, Verdict: outbox.Release}}))
	after := stats(t, s) // what was settled before holds: only the large one has found no room
	require.Equal(t, before.Accepted, after.Accepted)
	require.EqualValues(t, 1, after.Delivered)
	require.EqualValues(t, 3, after.Dead)
	require.Zero(t, after.Dropped)
	require.Len(t, names(t, s), 9)
	usageIsRight(t, s)

	disk.SetFree(1 << 30)
	large[0].Payload = nil
	require.Eventually(t, func() bool { return !errors.Is(s.Create(t.Context(), large), outbox.ErrDiskFull) },
		30*time.Second, 10*time.Millisecond, "the background finds out that there is room")
	require.EqualValues(t, 2, stats(t, s).DroppedBy.Quota) // six waited, four more net, and eight may
	require.Equal(t, []string{"n000000", "n000001", "n000003"}, names(t, s)[:3], "the dead, whose quota is another")
	usageIsRight(t, s)
}

// lines are those of the store's log with this text.
func lines(t *testing.T, log *bytes.Buffer, text string) (found []map[string]any) {
	t.Helper()
	for _, line := range bytes.Split(bytes.TrimSpace(log.Bytes()), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		m := map[string]any{}
		require.NoError(t, json.Unmarshal(line, &m))
		if m["msg"] == text {
			found = append(found, m)
		}
	}
	return found
}

// What quotas drop is in the log: in few lines, and all of it.
func TestQuota_Report(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	s, err := bolt.Open(dir, bolt.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))), bolt.WithMaxTasks(10), bolt.WithOverflow(bolt.DropOldest),
		bolt.WithMaxDead(2, 0), bolt.WithAckSync(time.Millisecond))
	require.NoError(t, err)
	made := create(t, s, tasks(0, 10)...)
	bury(t, s, claim(t, s, 5)...)
	await(t, func() bool { return stats(t, s).Dead == 2 })
	for i := range 50 {
		create(t, s, tasks(10+i, 1)...)
	}
	st := stats(t, s)
	require.EqualValues(t, 45+3, st.DroppedBy.Quota)
	dead := s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}})
	n := 0
	for task, err := range dead {
		require.NoError(t, err)
		require.Equal(t, made[3+n].ID, task.ID, "the newest are kept")
		n++
	}
	require.NoError(t, s.Close())

	total := func(text string) (events float64, first, last any) {
		all := lines(t, &log, text)
		require.NotEmpty(t, all)
		require.LessOrEqual(t, len(all), 8, "a line for some seconds, not for each event")
		for _, line := range all {
			events += line["events"].(float64)
		}
		return events, all[0]["first"], all[len(all)-1]["last"]
	}
	events, first, _ := total("outbox: oldest events dropped, for the quota")
	require.EqualValues(t, 45, events)
	require.Equal(t, made[5].ID.String(), first)
	events, first, last := total("outbox: oldest dead letters dropped, for their quota")
	require.EqualValues(t, 3, events)
	require.Equal(t, made[0].ID.String(), first)
	require.Equal(t, made[2].ID.String(), last)
}

// Dead letters have a quota of their own: the oldest go, the newest stays however
// large, and those of a store opened with a smaller quota go at the next one.
func TestQuota_Dead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithAckSync(time.Millisecond))
	create(t, s, tasks(0, 3000)...)
	bury(t, s, claim(t, s, 2990)...)
	require.NoError(t, s.Close())

	s = open(t, dir, bolt.WithMaxDead(5, 0), bolt.WithAckSync(time.Millisecond))
	require.EqualValues(t, 2990, stats(t, s).Dead, "they stay until the next dies")
	bury(t, s, claim(t, s, 1)...)
	await(t, func() bool { return stats(t, s).Dead <= 5 })
	require.EqualValues(t, 5, stats(t, s).Dead)
	require.EqualValues(t, 2986, stats(t, s).DroppedBy.Quota)
	require.Equal(t, "n002986", names(t, s)[0])
	usageIsRight(t, s)
	require.NoError(t, s.Close())

	s = open(t, dir, bolt.WithMaxDead(0, 1), bolt.WithAckSync(time.Millisecond))
	bury(t, s, claim(t, s, 2)...)
	await(t, func() bool { return stats(t, s).Dead <= 1 })
	require.EqualValues(t, 1, stats(t, s).Dead)
	require.Equal(t, "n002992", names(t, s)[0])
	n, err := s.Requeue(t.Context(), only(t, s, outbox.Dead))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	usageIsRight(t, s)
}

func only(t *testing.T, s outbox.Store, state outbox.State) (id outbox.ID) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{state}}) {
		require.NoError(t, err)
		id = task.ID
	}
	return id
}

// The smallest quota with the smallest segments stays below a bound on the disk, with
// every policy that keeps going.
func TestQuota_Small(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithMaxBytes(1<<20), bolt.WithSegmentBytes(64<<10), bolt.WithOverflow(bolt.DropOldest))
	for i := range 60 {
		create(t, s, tasks(100*i, 100)...)
	}
	st := stats(t, s)
	require.LessOrEqual(t, st.PendingBytes, uint64(1<<20))
	require.Greater(t, st.PendingBytes, uint64(1<<20-1000))
	require.EqualValues(t, 6000, st.Pending+st.Dropped)
	usageIsRight(t, s)
	require.NoError(t, s.Close())
	require.Less(t, folderSize(t, dir), int64(6<<20))
}

func folderSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	}))
	return size
}

// Opening a store of version 1 costs one scan, once; quotas know what it holds.
func TestQuota_Upgrade(t *testing.T) {
	dir := t.TempDir()
	copyDir(t, "testdata/v1", dir)
	s := open(t, dir, bolt.WithMaxTasks(9))
	st := stats(t, s)
	require.EqualValues(t, 8, st.Pending)
	require.ErrorIs(t, s.Create(t.Context(), tasks(0, 2)), outbox.ErrFull)
	create(t, s, tasks(0, 1)...)
	require.NoError(t, s.Close())
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("goutbox")).Bucket([]byte("meta"))
		require.EqualValues(t, 4, meta.Get([]byte("format"))[0])
		require.Len(t, meta.Get([]byte("usage")), 10*8+4)
		return nil
	}))
}

// With large quotas that are never used up a store obeys the law as without.
func TestQuota_Conformance(t *testing.T) {
	for _, policy := range []bolt.Overflow{bolt.Block, bolt.DropOldest} {
		h := newHarness(bolt.WithMaxBytes(1<<40), bolt.WithMaxTasks(1<<30), bolt.WithMaxDead(1<<30, 1<<40), bolt.WithOverflow(policy), bolt.WithOverlay(8, 1000))
		t.Run([]string{bolt.Block: "block", bolt.DropOldest: "drop oldest"}[policy], func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, storetest.Harness{
				Open:   func(t *testing.T) outbox.Store { return h.open(t, t.TempDir()) },
				Reopen: h.crash, Tx: h.tx, Settled: settled,
			})
		})
	}
}
