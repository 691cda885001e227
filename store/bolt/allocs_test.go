package bolt_test

import (
	"testing"

	"github.com/goutbox/goutbox/outbox"
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
