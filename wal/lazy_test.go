package wal_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// lazyOptions are those of a lazy log in memory.
func lazyOptions(disk *waltest.FS) wal.Options {
	opts := options(disk)
	opts.Lazy, opts.Spares = true, 1
	return opts
}

// lazyHistory notes what a lazy log says is synced, after every operation of the workload.
type lazyHistory struct {
	*history
	t *testing.T
	l *wal.Log
}

func (h *lazyHistory) open() {
	h.l = openWith(h.t, lazyOptions(h.disk))
	h.note()
}

func (h *lazyHistory) note() { h.acks = append(h.acks, mark{h.disk.Ops(), h.l.Synced()}) }

func (h *lazyHistory) do(n, size int) {
	records := h.make(n, size)
	last, err := h.l.Append(ctx, records...)
	require.NoError(h.t, err)
	require.Equal(h.t, last, h.l.Durable())
	h.queued(last, records)
	h.note()
}

func (h *lazyHistory) sync() {
	require.NoError(h.t, h.l.Sync(ctx))
	h.note()
	require.Equal(h.t, h.l.Next()-1, h.l.Synced())
}

// trim frees only what is synced, as an owner must who has it elsewhere by virtue of what comes after.
func (h *lazyHistory) trim(before wal.Position) {
	h.sync()
	require.NoError(h.t, h.history.trim(h.l, before))
	h.note()
}

func (h *lazyHistory) close() {
	require.NoError(h.t, h.l.Close())
	h.acks = append(h.acks, mark{h.disk.Ops(), h.l.Next() - 1})
}

func lazyWork(t *testing.T, h *lazyHistory) {
	h.open()
	for i := range 12 {
		h.do(1+i%3, 1000+900*i)
		if i%5 == 4 {
			h.sync()
		}
	}
	require.NoError(t, h.l.Prepare())
	h.do(1, 100)
	h.trim(h.l.Next() - 4)
	for range 4 {
		h.do(2, 15000)
	}
	h.disk.Kill() // with much unsynced

	h.open()
	h.do(1, 20)
	h.do(1, 45000)
	h.sync()
	h.close()
	h.open()
	h.sync() // what nobody vouches for is written again
	h.do(3, 4000)
	h.close()
	h.open()
	h.do(1, 30)
	h.trim(h.l.Next() - 2)
	h.do(1, 30)
	h.disk.Kill()
}

// checkLazy wants a prefix of what was written, with all that was synced, and no part from the middle missing.
func checkLazy(h *history, disk *waltest.FS, ops int) error {
	l, err := wal.Open("wal", lazyOptions(disk))
	if err != nil {
		return err
	}
	for p, r := wal.Position(l.First()), range1(l); p < l.Next(); p++ {
		if !r[p] {
			return fmt.Errorf("record %d of [%d, %d) is missing", p, l.First(), l.Next())
		}
	}
	return h.check(l, ops)
}

func range1(l *wal.Log) map[wal.Position]bool {
	there := map[wal.Position]bool{}
	for r, err := range l.Replay(0) {
		if err == nil {
			there[r.Position] = true
		}
	}
	return there
}

// TestLazy_CrashAnywhere turns the power off after every operation on a lazy log: what is found is a prefix of what was
// written, and has at least what Synced named (R8, R20). Killing the process alone costs nothing.
func TestLazy_CrashAnywhere(t *testing.T) {
	t.Parallel()
	h := &lazyHistory{history: newHistory(waltest.New()), t: t}
	lazyWork(t, h)
	lossy := 0
	for n := range h.disk.Ops() + 1 {
		for seed := range seeds(n, 4, 40) {
			if err := checkLazy(h.history, h.disk.Crash(n, seed), n); err != nil {
				t.Fatalf("crash after %d operations, before %v, seed %d: %v", n, nextOp(h.disk, n), seed, err)
			}
		}
		if len(h.data) > 0 && n > 0 && h.disk.Op(n-1).Kind == waltest.Write {
			lossy++
		}
	}
	require.Positive(t, lossy)
}

// TestLazy_CrashDuringRecovery lets a program recover and go on, and turns the power off once more.
func TestLazy_CrashDuringRecovery(t *testing.T) {
	t.Parallel()
	h := &lazyHistory{history: newHistory(waltest.New()), t: t}
	lazyWork(t, h)
	step := 5
	if long {
		step = 1
	}
	for n := 0; n <= h.disk.Ops(); n += step {
		second := &lazyHistory{history: newHistory(h.disk.Crash(n, uint64(n%7))), t: t}
		second.serial = 1_000_000
		second.acks = []mark{{0, at(h.acks, n)}}
		second.trims = []mark{{0, at(h.trims, n)}}
		second.open()
		var err error
		second.data, err = replay(second.l, 0)
		require.NoError(t, err)
		second.do(1, 900)
		second.do(2, 20000)
		second.sync()
		second.do(1, 30000)
		for m := range second.disk.Ops() + 1 {
			for seed := range seeds(n+m, 1, 6) {
				if err := checkLazy(second.history, second.disk.Crash(m, seed), m); err != nil {
					t.Fatalf("crash after %d operations, seed %d, then after %d more, before %v, seed %d: %v",
						n, n%7, m, nextOp(second.disk, m), seed, err)
				}
			}
		}
	}
}

// syncs counts the syncs of segments since operation from.
func syncs(disk *waltest.FS, from int) (n int) {
	for ; from < disk.Ops(); from++ {
		if op := disk.Op(from); op.Kind == waltest.Sync && op.Name[len(op.Name)-4:] == ".wal" {
			n++
		}
	}
	return n
}

// TestLazy_SyncCost counts what a lazy log writes and syncs, and what it says about it.
func TestLazy_SyncCost(t *testing.T) {
	disk := waltest.New()
	opts := lazyOptions(disk)
	var told []wal.Position
	opts.OnDurable = func(p wal.Position) { told = append(told, p) }
	l := openWith(t, opts)
	appendAll(t, l, text(1))
	ops := disk.Ops()
	appendAll(t, l, texts(2, 5)...)
	require.Equal(t, ops+4, disk.Ops(), "one write each, and nothing else")
	require.Equal(t, []wal.Position{1, 2, 3, 4, 5}, told)
	require.EqualValues(t, 5, l.Durable())
	require.EqualValues(t, 0, l.Synced())
	require.EqualValues(t, 5, l.Stats().Unsynced)
	require.EqualValues(t, 0, l.Stats().Syncs)
	require.NoError(t, l.Flush(ctx))
	require.Equal(t, ops+4, disk.Ops())

	require.NoError(t, l.Sync(ctx))
	require.Equal(t, ops+5, disk.Ops(), "one sync")
	require.EqualValues(t, 5, l.Synced())
	require.EqualValues(t, 1, l.Stats().Syncs)
	require.EqualValues(t, 5, l.Stats().LastRecords)
	require.Zero(t, l.Stats().Unsynced)
	require.NoError(t, l.Sync(ctx))
	require.Equal(t, ops+5, disk.Ops(), "there is nothing to sync")
	require.Len(t, told, 5, "and nothing new to tell")

	_, err := l.Write(text(6))
	require.NoError(t, err)
	require.NoError(t, l.Sync(ctx))
	require.EqualValues(t, 6, l.Synced(), "what is only queued, too")
	appendAll(t, l, text(7))
	require.NoError(t, l.Close())
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, texts(1, 7)...)
}

// TestLazy_RollSyncs: a segment is synced completely before the next one gets its name (I5).
func TestLazy_RollSyncs(t *testing.T) {
	disk := waltest.New()
	l := openWith(t, lazyOptions(disk))
	appendAll(t, l, big(1, 30000), big(2, 20000))
	require.Zero(t, l.Synced())
	ops := disk.Ops()
	appendAll(t, l, big(3, 30000))
	require.Equal(t, 1, syncs(disk, ops))
	require.EqualValues(t, 2, l.Synced())
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, big(1, 30000), big(2, 20000))
}

// TestLazy_FailedSyncPoisons: what was written without a sync is not vouched for any more, and everybody is told (P10, R9).
func TestLazy_FailedSyncPoisons(t *testing.T) {
	disk := waltest.New()
	opts := lazyOptions(disk)
	failedFrom := wal.Position(0)
	opts.OnFailed = func(from wal.Position, err error) {
		require.ErrorIs(t, err, wal.ErrPoisoned)
		failedFrom = from
	}
	l := openWith(t, opts)
	appendAll(t, l, texts(1, 3)...)
	require.NoError(t, l.Sync(ctx))
	appendAll(t, l, texts(4, 5)...)
	_, err := l.Write(text(6))
	require.NoError(t, err)
	failFirst(disk, waltest.Sync)
	require.NoError(t, l.Flush(ctx))
	require.ErrorIs(t, l.Sync(ctx), wal.ErrPoisoned)
	require.EqualValues(t, 3, l.Synced())
	ops := disk.Ops()
	require.ErrorIs(t, l.Sync(ctx), wal.ErrPoisoned)
	require.ErrorIs(t, l.Flush(ctx), wal.ErrPoisoned)
	_, err = l.Append(ctx, text(7))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
	require.Equal(t, ops, disk.Ops(), "nothing is written or synced any more")
	require.Zero(t, failedFrom, "nothing was waiting")

	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, texts(1, 3)...)
	disk.Kill()
	l = openWith(t, lazyOptions(disk))
	requireRecords(t, l, 1, texts(1, 6)...)
	require.EqualValues(t, 3, l.Synced(), "the pages may be gone (R10)")
	require.NoError(t, l.Sync(ctx))
	require.EqualValues(t, 6, l.Synced())
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, texts(1, 6)...)
}

// TestLazy_PoisonInTheSameRound: who appended in the round whose sync failed is not told that all is well.
func TestLazy_PoisonInTheSameRound(t *testing.T) {
	disk := waltest.New()
	opts := lazyOptions(disk)
	opts.SegmentBytes = 0
	var failedFrom wal.Position
	opts.OnFailed = func(from wal.Position, _ error) { failedFrom = from }
	l := openWith(t, opts)
	appendAll(t, l, big(1, 3<<20))
	failFirst(disk, waltest.Sync)
	_, err := l.Write(big(2, 700<<10)) // is written
	require.NoError(t, err)
	last, err := l.Append(ctx, big(3, 700<<10)) // does not fit, and the end of the segment is synced
	require.ErrorIs(t, err, wal.ErrPoisoned)
	require.EqualValues(t, 3, last)
	require.EqualValues(t, 2, failedFrom)
	require.EqualValues(t, 1, l.Durable())
	require.ErrorIs(t, l.Wait(ctx, 2), wal.ErrPoisoned)
}

// TestLazy_SyncWithoutRoom: what Open found is written again in its place on a full device. Where even that needs room,
// as on a file system that copies on write, Sync says so, and Synced how far it is.
func TestLazy_SyncWithoutRoom(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		disk := waltest.New()
		opts := options(disk)
		opts.Lazy = lazy
		l := openWith(t, opts)
		appendAll(t, l, texts(1, 3)...)
		require.NoError(t, l.Close())
		l = openWith(t, opts)
		before := l.Synced()
		require.Less(t, before, wal.Position(3))
		disk.SetFree(1000)
		disk.Inject(func(op waltest.Op) *waltest.Fault {
			if op.Kind != waltest.Write {
				return nil
			}
			return &waltest.Fault{Err: syscall.ENOSPC}
		})
		require.ErrorIs(t, l.Sync(ctx), wal.ErrNoSpace)
		require.Equal(t, before, l.Synced())
		require.NoError(t, l.Flush(ctx), "it is all there")
		disk.Inject(nil)
		require.NoError(t, l.Sync(ctx))
		require.EqualValues(t, 3, l.Synced())
		requireRecords(t, l, 1, texts(1, 3)...)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.NoError(t, l.Sync(ended), "nothing is left to do")
		disk.SetFree(-1)
		require.NoError(t, l.Prepare(), "which finds out that there is room")
		appendAll(t, l, text(4))
		require.NoError(t, l.Close())
	}
}

// TestLazy_Concurrent appends and syncs from many goroutines.
func TestLazy_Concurrent(t *testing.T) {
	disk := waltest.New()
	l := openWith(t, lazyOptions(disk))
	done := make(chan error)
	const producers, each = 8, 200
	for i := range producers {
		go func() {
			var err error
			for n := 0; n < each && err == nil; n++ {
				var last wal.Position
				if last, err = l.Append(ctx, big(n, 20+i)); err == nil && n%17 == i {
					if err = l.Sync(ctx); err == nil && l.Synced() < last {
						err = fmt.Errorf("synced to %d, appended %d", l.Synced(), last)
					}
				}
			}
			done <- err
		}()
	}
	for range producers {
		require.NoError(t, <-done)
	}
	require.NoError(t, l.Sync(ctx))
	require.EqualValues(t, producers*each, l.Synced())
	recovered := open(t, disk.Crash(disk.Ops(), 0))
	require.EqualValues(t, producers*each+1, recovered.Next())
}
