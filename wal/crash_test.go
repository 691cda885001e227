package wal_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// long is set by WAL_LONG=1 and makes the crash and fault tests try far more seeds.
var long = os.Getenv("WAL_LONG") != ""

// work is what the crash tests interrupt: appends, batches, writes that nobody waits for, rolls, trims that recycle and
// remove, restarts after Close and after a kill, and a batch larger than a segment.
func work(t *testing.T, h *history) {
	opts := options(h.disk)
	opts.Spares = 1
	l := openWith(t, opts)
	for i := range 14 {
		require.NoError(t, h.append(l, 1+i%3, 3000+500*i))
	}
	require.NoError(t, l.Prepare())
	require.NoError(t, h.write(l, 1, 100))
	require.NoError(t, h.write(l, 2, 9000))
	require.NoError(t, h.append(l, 1, 100))
	require.NoError(t, h.trim(l, l.Next()-4))
	for range 4 {
		require.NoError(t, h.append(l, 2, 15000))
	}
	require.NoError(t, l.Close())

	l = openWith(t, opts)
	require.NoError(t, l.Close()) // nothing was done
	l = openWith(t, opts)
	require.NoError(t, h.append(l, 1, 10))
	require.NoError(t, h.write(l, 1, 10))
	h.disk.Kill()

	l = openWith(t, opts)
	require.NoError(t, h.append(l, 2, 45000))
	require.NoError(t, h.append(l, 1, 200))
	require.NoError(t, h.trim(l, l.Next()))
	for range 6 {
		require.NoError(t, h.append(l, 1, 20000))
	}
	require.NoError(t, h.trim(l, l.Next()-2))
	require.NoError(t, h.append(l, 1, 20000))
	h.disk.Kill()
}

// TestCrash_EveryOperation turns the power off after every operation of the workload and checks what is found then:
// every acknowledged record, in order, none invented, batches whole or not at all (P1, P11, R1-R6, R19-R24).
func TestCrash_EveryOperation(t *testing.T) {
	t.Parallel()
	h := newHistory(waltest.New())
	work(t, h)
	for n := range h.disk.Ops() + 1 {
		for seed := range seeds(n, 3, 40) {
			if err := recoverAndCheck(h, h.disk.Crash(n, seed), n); err != nil {
				t.Fatalf("crash after %d operations, before %v, seed %d: %v", n, nextOp(h.disk, n), seed, err)
			}
		}
	}
	h.reached.require(t, "torn tail", "no witness", "tail rewritten", "spare adopted", "unfinished spare removed",
		"several segments", "empty", "trimmed", "folder made")
}

// TestCrash_DuringRecovery does the same, lets a program recover and go on working, and turns the power off again after
// every operation of that (R28).
func TestCrash_DuringRecovery(t *testing.T) {
	t.Parallel()
	h := newHistory(waltest.New())
	work(t, h)
	step := 7
	if long {
		step = 1
	}
	for n := 0; n <= h.disk.Ops(); n += step {
		second, err := goOn(h, n, uint64(n%7))
		require.NoError(t, err, "after %d operations, before %v", n, nextOp(h.disk, n))
		for m := range second.disk.Ops() + 1 {
			for seed := range seeds(n+m, 1, 6) {
				if err := recoverAndCheck(second, second.disk.Crash(m, seed), m); err != nil {
					t.Fatalf("crash after %d operations, seed %d, then after %d more, before %v, seed %d: %v",
						n, n%7, m, nextOp(second.disk, m), seed, err)
				}
			}
		}
	}
	h.reached.require(t, "torn tail", "no witness", "tail rewritten", "spare adopted", "unfinished spare removed", "several segments")
}

// goOn crashes, recovers and works a little more. It returns the history of both runs.
func goOn(h *history, n int, seed uint64) (*history, error) {
	second := newHistory(h.disk.Crash(n, seed))
	second.reached = h.reached
	second.serial = 1_000_000
	second.acks = []mark{{0, at(h.acks, n)}}
	second.trims = []mark{{0, at(h.trims, n)}}
	l, err := wal.Open("wal", options(second.disk))
	if err != nil {
		return nil, err
	}
	second.acks = append(second.acks, mark{second.disk.Ops(), l.Durable()}) // what Open found, it has made durable
	if second.data, err = replay(l, 0); err != nil {
		return nil, err
	}
	for last, first := range h.batch {
		if _, found := second.data[last]; found {
			second.batch[last] = first
		}
	}
	for _, do := range []func() error{
		func() error { return second.append(l, 2, 900) },
		func() error { return second.append(l, 1, 30000) },
		func() error { return second.trim(l, l.First()+3) },
		func() error { return second.append(l, 1, 40000) },
	} {
		if err := do(); err != nil {
			return nil, err
		}
	}
	return second, nil
}

func recoverAndCheck(h *history, disk *waltest.FS, ops int) error {
	l, err := wal.Open("wal", options(disk))
	if err != nil {
		return err
	}
	h.reached.found(l, disk)
	if err := h.check(l, ops); err != nil {
		return err
	}
	if ops%3 != 0 && !long {
		return nil
	}
	// It must be of use, too. That is slow, as it makes a segment.
	doubtful := l.Synced() < l.Durable()
	if _, err := l.Append(ctx, []byte("again")); err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	if l.Synced() != l.Durable() {
		return fmt.Errorf("synced to %d of %d", l.Synced(), l.Durable())
	}
	if doubtful {
		h.reached["tail rewritten"]++
	}
	return l.Close()
}

// seeds yields lose-all and keep-all, and then few or many others, different ones at each n.
func seeds(n int, few, many int) func(func(uint64) bool) {
	if long {
		few = many
	}
	return func(yield func(uint64) bool) {
		for i := range few {
			seed := uint64(i)
			if few == 1 {
				seed = uint64(n % 5)
			} else if i > 1 {
				seed = uint64(n*many + i)
			}
			if !yield(seed) {
				return
			}
		}
	}
}

func nextOp(disk *waltest.FS, n int) string {
	if n == disk.Ops() {
		return "the end"
	}
	return disk.Op(n).String()
}
