package outbox

import (
	"sync"
	"sync/atomic"
)

// blame finds the event that brings its destination down. Such an event fails as an
// outage does, and an outage is free (P6); if that cost the event nothing, it would
// never die, and shut the gate for all others again and again.
//
// What tells them apart is that others get through, while it fails or around it. That
// happens to the innocent, too: to what is under way as a link breaks, or to the one
// event that a short outage meets. So once is for free, and then it costs an attempt
// each time.
type blame struct {
	busy atomic.Bool // something is known of an event: who gets through need not take the lock otherwise

	mu      sync.Mutex
	failed  ID   // the event that could not get through since the last that did
	some    bool // there is one
	several bool // more than one, or the one was blamed already
	times   map[ID]int
}

// maxBlamed bounds the memory for events that were blamed (P7). It is far more than fail
// at a time; what is forgotten gets one more attempt for free.
const maxBlamed = 1024

// fails notes that the event could not reach the destination, and whether others have
// reached it during that attempt. It reports whether that is to cost it an attempt.
func (b *blame) fails(id ID, others bool) (costs bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy.Store(true)
	b.several = b.several || others || b.some && b.failed != id
	b.some, b.failed = true, id
	if others {
		b.addLocked(id)
	}
	if b.times[id] < 2 {
		return false
	}
	b.times[id]--
	return true
}

// passes notes that the event got through.
func (b *blame) passes(id ID) {
	if !b.busy.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.some && !b.several && b.failed != id {
		b.addLocked(b.failed) // one before it got through, or nobody knows, and this one after it
	}
	delete(b.times, id)
	b.some, b.several = false, false
	b.busy.Store(len(b.times) > 0)
}

func (b *blame) addLocked(id ID) {
	if len(b.times) >= maxBlamed || b.times == nil {
		b.times = map[ID]int{}
	}
	b.times[id]++
}
