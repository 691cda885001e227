package wal_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// tryWork is a workload that goes on after an error, as a program does that does not know better.
func tryWork(h *history) (errs []error) {
	var l *wal.Log
	opts := options(h.disk)
	opts.OnFailed = func(from wal.Position, err error) {
		for p := from; p < l.Next() && errors.Is(err, wal.ErrNoSpace); p++ {
			h.refused[p] = true
		}
	}
	l, err := wal.Open("wal", opts)
	if err != nil {
		return []error{err}
	}
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for i := range 6 {
		note(h.append(l, 1+i%2, 9000))
	}
	note(l.Prepare())
	note(h.write(l, 1, 300))
	note(h.append(l, 2, 25000))
	note(h.trim(l, l.Durable()-1))
	note(h.append(l, 1, 30000))
	note(h.append(l, 1, 100))
	note(h.append(l, 1, 100))
	note(l.Close())
	return errs
}

// TestFault_EveryOperation lets each operation of a workload fail, once and for ever, as a broken and as a full device,
// with writes cut short. Whatever happens, what was acknowledged is there afterwards, what was refused for want of
// space is not, and after a broken device nothing is acknowledged any more (P1, P9, P10).
func TestFault_EveryOperation(t *testing.T) {
	t.Parallel()
	clean := newHistory(waltest.New())
	require.Empty(t, tryWork(clean))
	met, places := map[error]int{}, reached{}
	for n := range clean.disk.Ops() {
		for _, forever := range []bool{false, true} {
			for _, cause := range []error{waltest.ErrIO, waltest.ErrFull} {
				for _, short := range []int{0, 700} {
					if short > 0 && clean.disk.Op(n).Kind != waltest.Write || forever && cause == waltest.ErrIO && !long {
						continue
					}
					h := newHistory(waltest.New())
					h.reached = places
					h.disk.Inject(func(op waltest.Op) *waltest.Fault {
						if op.Kind >= waltest.ReadDir || op.N < n || op.N > n && !forever {
							return nil
						}
						return &waltest.Fault{Err: cause, Short: short, Drop: true}
					})
					if err := checkFault(h, tryWork(h), cause, met); err != nil {
						t.Fatalf("%v from operation %v, for ever %v, short %d: %v", cause, clean.disk.Op(n), forever, short, err)
					}
				}
			}
		}
	}
	require.Positive(t, met[wal.ErrPoisoned])
	require.Positive(t, met[wal.ErrNoSpace])
	places.require(t, "no witness", "spare adopted", "unfinished spare removed", "several segments", "empty", "refused and left out")
}

func checkFault(h *history, errs []error, cause error, met map[error]int) error {
	poisoned := false
	for _, err := range errs {
		if !errors.Is(err, cause) && !errors.Is(err, wal.ErrNoSpace) {
			return fmt.Errorf("error has lost its cause: %w", err)
		}
		for _, sentinel := range []error{wal.ErrPoisoned, wal.ErrNoSpace} {
			if errors.Is(err, sentinel) {
				met[sentinel]++
			}
		}
		if poisoned && !errors.Is(err, wal.ErrPoisoned) {
			return fmt.Errorf("no longer poisoned: %w", err)
		}
		poisoned = errors.Is(err, wal.ErrPoisoned)
	}
	ops := h.disk.Ops()
	h.disk.Inject(nil)
	for seed := range seeds(ops, 2, 20) {
		if err := recoverAndCheck(h, h.disk.Crash(ops, seed), ops); err != nil {
			return fmt.Errorf("after a crash, seed %d: %w", seed, err)
		}
	}
	if len(h.refused) > 0 {
		h.reached["refused and left out"]++
	}
	h.disk.Kill()
	if err := recoverAndCheck(h, h.disk, ops); err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	return nil
}

// TestFault_PoisonIsFinal checks every call after the first failed sync (R9).
func TestFault_PoisonIsFinal(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	var failedFrom []wal.Position
	opts.OnFailed = func(from wal.Position, err error) {
		require.ErrorIs(t, err, wal.ErrPoisoned)
		failedFrom = append(failedFrom, from)
	}
	l := openWith(t, opts)
	appendAll(t, l, texts(1, 3)...)
	syncs := 0
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Sync {
			return nil
		}
		syncs++
		return &waltest.Fault{Err: waltest.ErrIO, Drop: true}
	})
	last, err := l.Append(ctx, text(4))
	require.EqualValues(t, 4, last)
	require.ErrorIs(t, err, wal.ErrPoisoned)
	require.ErrorIs(t, err, waltest.ErrIO, "the cause must be wrapped")
	require.Equal(t, []wal.Position{4}, failedFrom)
	disk.Inject(nil) // the device seems to be well again: that changes nothing

	ops := disk.Ops()
	_, err = l.Append(ctx, text(5))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	_, err = l.Queue(text(5))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	_, err = l.Write(text(5))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	require.ErrorIs(t, l.Wait(ctx, 4), wal.ErrPoisoned)
	require.NoError(t, l.Wait(ctx, 3), "it was durable before")
	require.ErrorIs(t, l.Sync(ctx), wal.ErrPoisoned)
	require.ErrorIs(t, l.Prepare(), wal.ErrPoisoned)
	require.ErrorIs(t, l.Trim(3), wal.ErrPoisoned)
	require.Equal(t, wal.Position(3), l.Durable())
	requireRecords(t, l, 1, texts(1, 3)...)
	require.ErrorIs(t, l.Close(), wal.ErrPoisoned, "Close tells that not everything is durable")
	require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
	require.Equal(t, ops, disk.Ops(), "nothing was written or synced after the failure")
	require.Equal(t, 1, syncs, "fdatasync must not be tried again")
}

// TestFault_DroppedPages is what happened to PostgreSQL in 2018 (R10): the sync fails, the pages stay readable and count
// as clean. The restarted log reads the record, so it must see to it that the record really gets to the disk.
func TestFault_DroppedPages(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, texts(1, 2)...)
	failFirst(disk, waltest.Sync)
	_, err := l.Append(ctx, text(3))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	require.ErrorIs(t, l.Close(), wal.ErrPoisoned)

	l = open(t, disk)
	requireRecords(t, l, 1, texts(1, 3)...)
	appendAll(t, l, text(4))
	requireRecords(t, l, 1, texts(1, 4)...)

	l = open(t, disk.Crash(disk.Ops(), 0))
	requireRecords(t, l, 1, texts(1, 4)...)
}

// TestFault_FolderNotSynced goes on from there: the record that was written again is complete in its new segment, but
// the process dies before the folder is synced. Whoever opens the log next is told that the record is durable (R2).
func TestFault_FolderNotSynced(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	failFirst(disk, waltest.Sync)
	_, err := l.Append(ctx, text(2))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	disk.Kill()

	l = open(t, disk)
	failFirst(disk, waltest.SyncDir)
	_, err = l.Append(ctx, text(3))
	require.ErrorIs(t, err, wal.ErrPoisoned)
	disk.Kill()

	l = open(t, disk)
	require.EqualValues(t, 2, l.Durable())
	l = open(t, disk.Crash(disk.Ops(), 0))
	requireRecords(t, l, 1, texts(1, 2)...)
}

// TestFault_KilledBeforeSync: what Open reports is durable, though the last process did not live to sync it.
func TestFault_KilledBeforeSync(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Sync {
			return nil
		}
		return &waltest.Fault{Err: waltest.ErrIO} // and drops nothing: as if it had never been called
	})
	_, err := l.Append(ctx, text(2))
	require.Error(t, err)
	disk.Inject(nil)
	disk.Kill()

	l = open(t, disk)
	require.EqualValues(t, 2, l.Durable())
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, texts(1, 2)...)
}

// failFirst lets the next operation of a kind fail as a broken device does, and no other.
func failFirst(disk *waltest.FS, kind waltest.Kind) {
	failed := false
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != kind || failed {
			return nil
		}
		failed = true
		return &waltest.Fault{Err: waltest.ErrIO, Drop: true}
	})
}

// TestFault_CloseMakesDurable has no Sync but that of Close (R13).
func TestFault_CloseMakesDurable(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	_, err := l.Write(text(1))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, text(1))
}

func TestFault_FullDevice(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	l := openWith(t, opts)
	appendAll(t, l, text(1))
	require.NoError(t, l.Prepare())
	require.Equal(t, 2, l.Stats().Spares)
	disk.SetFree(1000) // no room for a whole segment

	// Accepting goes on until only the reserve is left ...
	accepted := 1
	for ; ; accepted++ {
		if l.Prepare(); l.Stats().Spares < 2 {
			require.True(t, l.Stats().Full)
		}
		if _, err := l.Append(ctx, big(accepted+1, 8000)); err != nil {
			require.ErrorIs(t, err, wal.ErrNoSpace)
			break
		}
	}
	require.Greater(t, accepted, 5)
	require.Equal(t, 1, l.Stats().Spares, "the reserve is a whole segment, which the next Open may need")
	_, err := l.Queue(big(0, 8000))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	for _, name := range disk.Names("wal") {
		require.NotContains(t, name, ".tmp", "a spare that was not finished must go")
	}

	// ... which settles may use.
	written := 0
	for ; ; written++ {
		if _, err := l.Write(big(0, 1000)); err != nil {
			require.ErrorIs(t, err, wal.ErrNoSpace)
			break
		}
		require.NoError(t, l.Sync(ctx))
	}
	require.Greater(t, written, 40)

	// Trim brings a segment back; when the device has room again, everything goes on.
	require.NoError(t, l.Trim(l.Next()))
	require.Positive(t, l.Stats().Spares)
	_, err = l.Write(text(0))
	require.NoError(t, err)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	disk.SetFree(-1)
	require.NoError(t, l.Prepare())
	require.False(t, l.Stats().Full)
	appendAll(t, l, texts(1, 100)...)
	require.NoError(t, l.Close())
}

// TestFault_NoSpaceForCommit has a device that is full when a commit needs a segment, without warning: the records fail,
// are not in the log, and their positions are not used again.
func TestFault_NoSpaceForCommit(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	var l *wal.Log
	var failedFrom wal.Position
	opts.OnFailed = func(from wal.Position, err error) {
		require.ErrorIs(t, err, wal.ErrNoSpace)
		failedFrom = from
		disk.SetFree(2 * segmentBytes)
		require.NoError(t, l.Prepare())
		_, err = l.Write(text(9))
		require.ErrorIs(t, err, wal.ErrNoSpace, "nothing new while the failure is being told")
	}
	l = openWith(t, opts)
	appendAll(t, l, big(1, 30000))
	disk.SetFree(30000)
	lost, err := l.Write(big(2, 40000))
	require.NoError(t, err)
	last, err := l.Append(ctx, text(3))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	require.ErrorIs(t, err, waltest.ErrFull)
	require.EqualValues(t, 2, failedFrom)
	require.ErrorIs(t, l.Wait(ctx, lost), wal.ErrNoSpace)
	require.ErrorIs(t, l.Sync(ctx), wal.ErrNoSpace)

	next, err := l.Append(ctx, text(4))
	require.NoError(t, err)
	require.Greater(t, next, last)
	require.ErrorIs(t, l.Wait(ctx, lost), wal.ErrNoSpace, "still, though a later record is durable")
	require.NoError(t, l.Sync(ctx))
	for _, l := range []*wal.Log{l, open(t, disk.Crash(disk.Ops(), 0))} {
		got, err := replay(l, 0)
		require.NoError(t, err)
		require.Equal(t, map[wal.Position]string{1: string(big(1, 30000)), next: string(text(4))}, got)
	}
}

// TestFault_TrimMakesRoom: a file that is removed gives its space back, so the log tries again by itself.
func TestFault_TrimMakesRoom(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	opts.Spares = 1
	l := openWith(t, opts)
	for i := range 4 {
		appendAll(t, l, big(i, 40000))
	}
	disk.SetFree(0)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	require.NoError(t, l.Trim(2))
	require.True(t, l.Stats().Full, "a file that is kept gives nothing back")
	require.NoError(t, l.Trim(3))
	require.False(t, l.Stats().Full)
	require.NoError(t, l.Prepare())
	appendAll(t, l, big(5, 40000), big(6, 40000))
}

// TestFault_LargerThanSpares: on a full device spares are no help to a batch that needs a segment of its own size.
func TestFault_LargerThanSpares(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	for i := range 3 {
		appendAll(t, l, big(i, 40000))
	}
	disk.SetFree(0)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	require.NoError(t, l.Trim(3))
	require.Equal(t, 2, l.Stats().Spares)
	_, err := l.Write(big(0, segmentBytes))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	_, err = l.Write(big(0, segmentBytes/2), big(0, segmentBytes/4))
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// TestFault_FullWhenOverwriting is a file system that copies on write: it can be full even for blocks that were written
// before. That is no poison.
func TestFault_FullWhenOverwriting(t *testing.T) {
	for _, ext := range []string{".wal", ".spare"} {
		disk := waltest.New()
		l := open(t, disk)
		appendAll(t, l, big(1, 40000))
		require.NoError(t, l.Prepare())
		failed := false
		disk.Inject(func(op waltest.Op) *waltest.Fault {
			if failed || op.Kind != waltest.Write || filepath.Ext(op.Name) != ext {
				return nil
			}
			failed = true
			return &waltest.Fault{Err: waltest.ErrFull, Short: 1000}
		})
		next := map[string][]byte{".wal": text(2), ".spare": big(2, 40000)}[ext]
		_, err := l.Append(ctx, next)
		require.ErrorIs(t, err, wal.ErrNoSpace)
		require.NotErrorIs(t, err, wal.ErrPoisoned)
		require.True(t, failed)
		requireRecords(t, open(t, disk.Crash(disk.Ops(), 1)), 1, big(1, 40000))
		require.NoError(t, l.Prepare())
		_, err = l.Append(ctx, next)
		require.NoError(t, err)
		got, err := replay(open(t, disk.Crash(disk.Ops(), 0)), 0)
		require.NoError(t, err)
		require.Equal(t, map[wal.Position]string{1: string(big(1, 40000)), 3: string(next)}, got)
	}
}

// TestFault_SpareIsComplete looks at spares after a crash: one that has the name has all its blocks, too (R38).
func TestFault_SpareIsComplete(t *testing.T) {
	disk := waltest.New()
	require.NoError(t, open(t, disk).Prepare())
	found := 0
	for n := range disk.Ops() + 1 {
		for seed := range uint64(20) {
			crashed := disk.Crash(n, seed)
			if data := crashed.Bytes("wal/0000000000000001.spare"); data != nil {
				require.Equal(t, make([]byte, segmentBytes), data, "crash after %d operations, seed %d", n, seed)
				require.Positive(t, open(t, crashed).Stats().Spares)
				found++
			}
		}
	}
	require.Positive(t, found)
}

// TestFault_Open lets each operation of Open fail, reads included: it must say so, and leave the log as it is.
func TestFault_Open(t *testing.T) {
	disk, records := smallLog(t)
	disk.SetBytes("wal/0000000000000001.tmp", []byte("unfinished"))
	disk.SetBytes("wal/0000000000000002.spare", []byte("too short"))
	met := map[waltest.Kind]bool{}
	for n := 0; ; n++ {
		broken, count, kind := disk.Crash(disk.Ops(), 0), 0, waltest.Kind(0)
		broken.Inject(func(op waltest.Op) *waltest.Fault {
			if count++; count <= n || op.Kind == waltest.Mkdir {
				return nil
			}
			kind = op.Kind
			return &waltest.Fault{Err: waltest.ErrIO}
		})
		l, err := wal.Open("wal", options(broken))
		broken.Inject(nil)
		if kind == 0 {
			require.NoError(t, err)
			break
		}
		met[kind] = true
		require.ErrorIs(t, err, waltest.ErrIO, "%v", kind)
		require.Nil(t, l)
		requireRecords(t, open(t, broken), 1, records...)
	}
	require.Len(t, met, 6, "%v", met)
}
