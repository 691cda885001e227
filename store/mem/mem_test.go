package mem_test

import (
	"testing"
	"testing/synctest"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/goutbox/goutbox/store/storetest"
)

// harness is all that a store which keeps nothing has to say.
var harness = storetest.Harness{
	Open: func(*testing.T) outbox.Store { return mem.New() },
}

func TestStore(t *testing.T) { storetest.Run(t, harness) }

// In a bubble every delay passes at once, and time stands still between them: all
// tasks of a rule share one millisecond, and their due times are equal.
func TestStore_Synctest(t *testing.T) {
	h := harness
	h.Around = synctest.Test
	storetest.Run(t, h)
}

// Two stores of one kind agree, or the test of agreement is wrong.
func TestStore_Agree(t *testing.T) {
	h := harness
	h.Around = synctest.Test
	for seed := range uint64(5) {
		storetest.Agree(t, seed, 250, h, h)
	}
}

// The listener runs without the store's lock.
func TestStore_NotifyMayCall(t *testing.T) {
	s := mem.New()
	defer s.Close()
	var waiting uint64
	stop := s.Notify(func() {
		st, err := s.Stats(t.Context())
		if err != nil {
			t.Errorf("stats in a listener: %v", err)
		}
		waiting = st.Pending
	})
	defer stop()
	if err := s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "a"}, MaxAttempts: 1}}); err != nil {
		t.Fatal(err)
	}
	if waiting != 1 {
		t.Errorf("the listener saw %d tasks, want 1", waiting)
	}
}
