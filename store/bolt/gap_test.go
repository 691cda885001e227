package bolt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func claimGaps(t *testing.T, s outbox.Store, most int) []outbox.Task {
	t.Helper()
	c, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: most, Lease: time.Hour, Gaps: true})
	require.NoError(t, err)
	return c.Tasks
}

func gapOf(t *testing.T, task outbox.Task) (g outbox.Gap) {
	t.Helper()
	require.Equal(t, outbox.GapName, task.Name)
	require.NoError(t, task.Decode(&g))
	return g
}

// told is what was delivered or deleted of gaps.
type told map[outbox.ID]outbox.Gap

// check holds what was told, delivered or not, and what is untold against what was
// dropped: each drop is in one of them, once (P5). It returns how much that is.
func (delivered told) check(t *testing.T, s *bolt.Store) (events uint64) {
	t.Helper()
	var sum [2]uint64
	add := func(g outbox.Gap) {
		for i, reason := range outbox.GapReasons {
			if g.Reason == reason {
				sum[i] += g.Count
			}
		}
	}
	for _, g := range delivered {
		add(g)
	}
	waiting := map[outbox.Reason]int{}
	for task, err := range s.Tasks(t.Context(), outbox.Filter{Name: outbox.GapName}) {
		require.NoError(t, err)
		require.NotContains(t, delivered, task.ID)
		g := gapOf(t, task)
		add(g)
		if task.State != outbox.Dead {
			waiting[g.Reason]++
		}
	}
	untold, st := s.Untold(), stats(t, s)
	require.Equal(t, [2]uint64{st.DroppedBy.Quota, st.DroppedBy.Expired}, [2]uint64{sum[0] + untold[0], sum[1] + untold[1]},
		"told %v, untold %v", sum, untold)
	audit(t, s)
	return sum[0] + sum[1]
}

// gapLife is a store whose quota drops events, which expire too, and which is told to crash.
type gapLife struct {
	*testing.T
	r         *rand.Rand
	s         *bolt.Store
	dir       string
	delivered told
	flying    []outbox.Task
	opts      []bolt.Option
}

// Whatever a store goes through, each event that it has dropped is told of once (P5).
func TestGap_Life(t *testing.T) {
	seeds, steps := 6, 120
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		seeds, steps = 60, 600
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			l := &gapLife{
				T: t, r: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir(), delivered: told{},
				opts: []bolt.Option{bolt.WithMaxTasks(6), bolt.WithOverflow(bolt.DropOldest), bolt.WithOverlay(8, 100), bolt.WithSegmentBytes(64 << 10)},
			}
			l.s = open(t, l.dir, l.opts...)
			most := uint64(0)
			for range steps {
				l.step()
				most = max(most, l.delivered.check(t, l.s))
			}
			require.Greater(t, most, uint64(20), "nothing of interest has happened")
			for got := claimGaps(t, l.s, 100); len(got) > 0; got = claimGaps(t, l.s, 100) {
				l.end(got...)
			}
			l.restart(false)
			for got := claimGaps(t, l.s, 100); len(got) > 0; got = claimGaps(t, l.s, 100) {
				l.end(got...)
			}
			l.delivered.check(t, l.s)
			require.Equal(t, [2]uint64{}, l.s.Untold())
		})
	}
}

func (l *gapLife) step() {
	switch n := l.r.IntN(20); {
	case n < 6:
		list := tasks(0, 1+l.r.IntN(3))
		for i := range list {
			if list[i].Priority = outbox.Priority(l.r.IntN(3) - 1); l.r.IntN(3) == 0 {
				list[i].TTL = 1
			}
		}
		if err := l.s.Create(l.Context(), list); !errors.Is(err, outbox.ErrFull) { // all is in flight
			require.NoError(l, err)
		}
	case n < 9:
		l.flying = append(l.flying, claimGaps(l.T, l.s, 1+l.r.IntN(4))...)
	case n < 10:
		l.flying = append(l.flying, claim(l.T, l.s, 4)...)
	case n < 14:
		l.settle()
	case n < 15:
		l.mourn()
	case n < 16:
		require.NoError(l, l.s.Flush())
	case n < 17:
		require.NoError(l, l.s.Lighten())
	case n < 18:
		require.NoError(l, l.s.Advance())
	default:
		l.restart(n < 19)
	}
}

// end delivers tasks.
func (l *gapLife) end(list ...outbox.Task) {
	done(l.T, l.s, list...)
	l.note(list...)
	require.NoError(l, l.s.Sync())
}

// note notes which gaps are gone.
func (l *gapLife) note(list ...outbox.Task) {
	for _, task := range list {
		if task.Name == outbox.GapName {
			l.delivered[task.ID] = gapOf(l.T, task)
		}
	}
}

// settle settles what is in flight, all of it.
func (l *gapLife) settle() {
	for _, task := range l.flying {
		switch v := outbox.Verdict(1 + l.r.IntN(4)); v {
		case outbox.Done:
			l.end(task)
		default:
			settle(l.T, l.s, v, 0, task)
		}
	}
	require.NoError(l, l.s.Sync())
	l.flying = nil
}

// mourn requeues or deletes dead letters, and deletes what waits.
func (l *gapLife) mourn() {
	for task, err := range l.s.Tasks(l.Context(), outbox.Filter{}) {
		require.NoError(l, err)
		switch n := l.r.IntN(4); {
		case task.State == outbox.Dead && n < 2:
			_, err = l.s.Requeue(l.Context(), task.ID)
		case task.State != outbox.InFlight && n == 2:
			if _, err = l.s.Delete(l.Context(), task.ID); err == nil {
				l.note(task)
			}
		}
		require.NoError(l, err)
	}
}

// restart closes the store and opens it, or goes on with what a crash leaves.
func (l *gapLife) restart(crash bool) {
	l.flying = nil
	if crash {
		dir := l.TempDir()
		l.s.Freeze(func() { copyDir(l.T, l.dir, dir) })
		l.dir = dir
	}
	require.NoError(l, l.s.Close())
	if report, err := bolt.Verify(l.dir); l.r.IntN(4) == 0 {
		require.NoError(l, err)
		require.True(l, report.OK(), report.String())
	}
	l.s = open(l.T, l.dir, l.opts...)
}

// A gap comes before what survived in its class, has the class of what it tells of, and
// needs no room: neither does it cost an event its place, nor is it dropped.
func TestGap_Quota(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithMaxTasks(2), bolt.WithOverflow(bolt.DropOldest))
	low := tasks(0, 3)
	for i := range low {
		low[i].Priority = outbox.Low
	}
	for i := range low {
		create(t, s, low[i:i+1]...)
	}
	c, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Gaps: true, Lease: time.Hour})
	require.NoError(t, err)
	g := gapOf(t, c.Tasks[0])
	require.Equal(t, outbox.Gap{Reason: outbox.ReasonQuota, Count: 1, First: low[0].ID, Last: low[0].ID, From: low[0].CreatedAt, To: low[0].CreatedAt}, g)
	require.Equal(t, outbox.Low, c.Tasks[0].Priority)
	require.Equal(t, []string{"n000001", "n000002", outbox.GapName}, names(t, s))
	used, _ := s.Used()
	require.EqualValues(t, 2, used)

	settle(t, s, outbox.Retry, 0, c.Tasks...)
	for i := range 20 { // each drops one, and never the gap, which is the oldest that is due
		create(t, s, tasks(10+i, 1)...)
		require.NoError(t, s.Flush())
	}
	require.Equal(t, []string{outbox.GapName, "n000028", "n000029"}, names(t, s))
	usageIsRight(t, s)
	require.Equal(t, [2]uint64{20, 0}, s.Untold())
	got := claimGaps(t, s, 100)
	require.Len(t, got, 3)
	require.Equal(t, outbox.GapName, got[2].Name, "it is of a lower class")
	done(t, s, got...)
	got = claimGaps(t, s, 100)
	require.EqualValues(t, 20, gapOf(t, got[0]).Count)
	require.Equal(t, outbox.Normal, got[0].Priority, "the highest")
}

// All that has expired before the first that survives is told at once, and before it.
func TestGap_Expired(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithOverlay(16, 1000), bolt.WithSegmentBytes(64<<10))
	list := tasks(0, 1000)
	for i := range list {
		if i != 10 && i < 990 {
			list[i].TTL = 1
		}
	}
	create(t, s, list...)
	require.NoError(t, s.Flush())
	got := claimGaps(t, s, 100)
	require.Equal(t, outbox.GapName, got[0].Name)
	require.EqualValues(t, 10, gapOf(t, got[0]).Count)
	require.Equal(t, "n000010", got[1].Name)
	require.Equal(t, "n000990", got[2].Name)
	require.Len(t, got, 12)
	require.Equal(t, [2]uint64{0, 979}, s.Untold(), "for the next: one is in flight")
	done(t, s, got...)
	got = claimGaps(t, s, 100)
	require.Len(t, got, 1)
	g := gapOf(t, got[0])
	require.Equal(t, []any{uint64(979), list[11].ID, list[989].ID}, []any{g.Count, g.First, g.Last})
	require.True(t, got[0].DueAt.Before(list[11].DueAt), "in the place of the first")
}

// Claims that do not ask write nothing for gaps, and lose nothing: the first that asks is
// told of all of before.
func TestGap_NotAsked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithMaxTasks(5), bolt.WithOverflow(bolt.DropOldest))
	for i := range 30 {
		create(t, s, tasks(i, 1)...)
		if i%10 == 9 {
			require.NoError(t, s.Close())
			s = open(t, dir, bolt.WithMaxTasks(5), bolt.WithOverflow(bolt.DropOldest))
		}
	}
	got := claim(t, s, 100)
	require.Len(t, got, 5)
	done(t, s, got...)
	require.NoError(t, s.Sync())
	require.EqualValues(t, 30, stats(t, s).Accepted)
	got = claimGaps(t, s, 100)
	require.EqualValues(t, 25, gapOf(t, got[0]).Count)
	before := stats(t, s).BytesWritten
	for range 100 {
		require.Empty(t, claimGaps(t, s, 100))
	}
	require.Equal(t, before, stats(t, s).BytesWritten, "P6")
}

// A dead gap is a dead letter: its quota may drop it, and then what it told is told again.
func TestGap_DeadQuota(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithMaxDead(1, 0))
	expired := tasks(0, 3)
	for i := range expired {
		expired[i].TTL = 1
	}
	create(t, s, expired...)
	bury(t, s, claimGaps(t, s, 100)...)
	create(t, s, tasks(5, 1)...)
	other := claimGaps(t, s, 100)
	require.Len(t, other, 1)
	bury(t, s, other...)
	require.Eventually(t, func() bool { return stats(t, s).DroppedBy.Quota == 1 }, 30*time.Second, time.Millisecond)
	require.Equal(t, [2]uint64{0, 3}, s.Untold())
	copied := t.TempDir()
	require.NoError(t, s.Sync())
	s.Freeze(func() { copyDir(t, dir, copied) })
	for _, s := range []*bolt.Store{s, open(t, copied)} {
		got := claimGaps(t, s, 100)
		require.Len(t, got, 1)
		require.Equal(t, outbox.Gap{Reason: outbox.ReasonExpired, Count: 3, First: expired[0].ID, Last: expired[2].ID,
			From: expired[0].CreatedAt, To: expired[2].CreatedAt}, gapOf(t, got[0]))
	}
}

// On a full disk a claim goes on without a gap (P9); when there is room, it is told.
func TestGap_DiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // or the background may find room before the claim
		dir := t.TempDir()
		disk := logDisk(t, dir)
		s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))
		list := tasks(0, 40)
		for i := range 20 {
			list[i].TTL = 1
		}
		create(t, s, list...)
		time.Sleep(time.Microsecond)
		require.Equal(t, "n000020", claim(t, s, 1)[0].Name)
		require.NoError(t, s.Prepare()) // or a segment would be lacking to large events alone
		disk.SetFree(0)
		large := tasks(100, 1)
		large[0].Payload = make([]byte, 60_000)
		for s.Create(t.Context(), large) == nil {
			continue
		}
		synctest.Wait() // until the background knows it too
		require.Error(t, stats(t, s).NoRoom, s.Room())
		got := claimGaps(t, s, 10)
		require.Len(t, got, 10)
		require.Equal(t, "n000021", got[0].Name, "without a gap")
		require.Equal(t, [2]uint64{0, 20}, s.Untold())
		audit(t, s)
		disk.SetFree(-1)
		require.Eventually(t, func() bool { // the background looks for room every second
			got = claimGaps(t, s, 1)
			return len(got) == 1 && got[0].Name == outbox.GapName
		}, 30*time.Second, 10*time.Millisecond)
		require.EqualValues(t, 20, gapOf(t, got[0]).Count)
	})
}

// What recycles the log without a checkpoint carries the sums over (P5).
func TestGap_Recycled(t *testing.T) {
	for what, recycle := range map[string]func(*bolt.Store) error{"baseline": (*bolt.Store).Lighten, "database": (*bolt.Store).Advance} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, bolt.WithSegmentBytes(256<<10))
			drop := func(n int) {
				t.Helper()
				list := tasks(0, n)
				for i := range list {
					list[i].TTL = 1
				}
				create(t, s, list...)
				require.Empty(t, claim(t, s, 1))
			}
			deliver := func() {
				t.Helper()
				for range 20 {
					large := tasks(0, 1)
					large[0].Payload = make([]byte, 20_000)
					create(t, s, large...)
					done(t, s, claim(t, s, 1)...)
				}
			}
			drop(3)
			deliver()
			late := tasks(0, 1)
			late[0].Delay = year
			create(t, s, late...) // the log is needed from here on
			drop(4)
			require.NoError(t, s.Sync())
			require.NoError(t, recycle(s))
			require.Greater(t, s.LogFirst(), uint64(1), "the log begins behind the first drop")
			drop(5)
			require.NoError(t, s.Sync())
			for range 2 {
				copied := t.TempDir()
				s.Freeze(func() { copyDir(t, dir, copied) })
				dir, s = copied, open(t, copied, bolt.WithSegmentBytes(256<<10))
				require.Equal(t, [2]uint64{0, 12}, s.Untold())
				told{}.check(t, s)
			}
		})
	}
}

// Records of drops and gaps that found no room are taken back, and what they said with
// them; the claim that waited for them goes on without a gap (P5, P9).
func TestGap_LogFull(t *testing.T) {
	dir := t.TempDir()
	disk := logDisk(t, dir)
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))
	expired := tasks(0, 20)
	for i := range expired {
		expired[i].TTL = 1
	}
	create(t, s, append(expired, tasks(20, 5)...)...)

	looking, full := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(looking) })
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Create {
			return nil
		}
		once()
		<-full
		return &waltest.Fault{Err: syscall.ENOSPC}
	})
	large := tasks(100, 20)
	for i := range large {
		large[i].Payload = make([]byte, 30_000) // more than all the segments that are ready
	}
	failed, claimed := make(chan error, 1), make(chan outbox.Claimed, 1)
	go func() { failed <- s.Create(t.Context(), large) }()
	<-looking
	require.Eventually(t, func() bool { return s.InMemory() > 25+len(large)-1 }, 30*time.Second, time.Millisecond)
	go func() {
		c, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 100, Gaps: true, Lease: time.Hour})
		if err != nil {
			t.Error(err)
		}
		claimed <- c
	}()
	require.Eventually(t, func() bool { return s.InMemory() > 25+len(large) }, 30*time.Second, time.Millisecond)
	require.Equal(t, [2]uint64{}, s.Untold(), "the gap is queued")
	close(full)
	require.ErrorIs(t, <-failed, outbox.ErrDiskFull)
	got := (<-claimed).Tasks
	require.Len(t, got, 5)
	require.Equal(t, "n000020", got[0].Name, "no gap")
	require.NoError(t, s.Sync())
	told{}.check(t, s)
	require.EqualValues(t, 25, stats(t, s).Accepted)

	disk.Inject(nil)
	require.NoError(t, s.Lighten())
	require.Eventually(t, func() bool { // the background looks for room every second
		got = claimGaps(t, s, 1)
		return len(got) == 1 && got[0].Name == outbox.GapName
	}, 30*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 20, gapOf(t, got[0]).Count)
	told{}.check(t, s)
}

// A gap event that salvaging could not save must not keep the next one back.
func TestGap_Salvaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	expired := tasks(0, 3)
	for i := range expired {
		expired[i].TTL = 1
	}
	create(t, s, expired[:2]...)
	got := claimGaps(t, s, 10)
	require.NoError(t, s.Flush())
	create(t, s, expired[2:]...)
	require.Empty(t, claimGaps(t, s, 10), "one is in flight")
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("goutbox")).Bucket([]byte("tasks")).Delete(got[0].ID[:])
	}))
	require.NoError(t, db.Close())
	_, err := bolt.Salvage(dir, quiet)
	require.NoError(t, err)
	s = open(t, dir)
	require.Equal(t, [2]uint64{0, 1}, s.Untold())
	got = claimGaps(t, s, 10)
	require.Len(t, got, 1)
	require.EqualValues(t, 1, gapOf(t, got[0]).Count)
}
