package mem_test

import (
	"testing"
	"testing/synctest"
	"time"

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

// A claim that drops something tells others, for whom there may be something now.
func TestStore_NotifyOfDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		defer s.Close()
		if err := s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "a"}, MaxAttempts: 1, TTL: 1}}); err != nil {
			t.Fatal(err)
		}
		calls := 0
		defer s.Notify(func() { calls++ })()
		time.Sleep(time.Nanosecond)
		for range 3 {
			if _, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if calls != 1 {
			t.Errorf("the listener was called %d times, want once", calls)
		}
	})
}
