package bolt_test

import (
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// What a call of Enqueue leaves to the garbage collector is its task, its entry, the
// entry's bytes, and a round of the log, which it shares with those who call meanwhile.
// A checkpoint is not in it: there are too few events for one to be due.
func TestEnqueue_Allocations(t *testing.T) {
	if underRace {
		t.Skip("a pool forgets at random under the race detector")
	}
	ob := outbox.New(open(t, t.TempDir()))
	var payload any = make([]byte, 256) // making it an any allocates, and is the caller's
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := ob.Enqueue(t.Context(), "order.created", payload); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 4.0)
}

// A store that delivers as it accepts writes the same few segments again and again: each new
// one is written full of zeros first, and would double what goes to the disk.
func TestStore_SegmentsAreWrittenAgain(t *testing.T) {
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	var made atomic.Int64
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Create {
			made.Add(1)
		}
		return nil
	})
	s := open(t, dir, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))
	for range 100 { // segments
		for range 8 {
			list := tasks(0, 1)
			list[0].Payload = make([]byte, 8<<10)
			create(t, s, list...)
			settle(t, s, outbox.Done, 0, claim(t, s, 1)...)
		}
		require.NoError(t, s.Tend()) // as the background does in its time
	}
	require.LessOrEqual(t, made.Load(), int64(30))
}
