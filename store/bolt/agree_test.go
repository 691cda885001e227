package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/goutbox/goutbox/store/storetest"
)

// The store does at random what store/mem does, with crashes and clean reopens,
// and must not differ.
func TestStore_AgreesWithMem(t *testing.T) {
	rounds := 2
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		rounds = 100
	}
	oracle := storetest.Harness{Open: func(*testing.T) outbox.Store { return mem.New() }}
	tiny := newHarness(bolt.WithOverlay(10, 1000), bolt.WithSegmentBytes(64<<10))
	large := newHarness()
	for _, one := range []struct {
		name    string
		of      *harness
		subject storetest.Harness
	}{
		{"clean", large, storetest.Harness{Reopen: large.reopen}},
		{"crash", large, storetest.Harness{Reopen: large.crash, Settled: settled}},
		{"clean, tiny overlay", tiny, storetest.Harness{Reopen: tiny.reopen}},
		{"crash, tiny overlay", tiny, storetest.Harness{Reopen: tiny.crash, Settled: settled}},
	} {
		one.subject.Audit = harnessAudit
		one.subject.Open = func(t *testing.T) outbox.Store { return one.of.open(t, t.TempDir()) }
		for range rounds {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s, seed %d", one.name, seed), func(t *testing.T) {
				t.Parallel()
				storetest.Agree(t, seed, 300, oracle, one.subject)
			})
		}
	}
}
