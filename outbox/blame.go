package outbox

import (
	"slices"
	"sync"
	"sync/atomic"
)

// blame finds the event that brings its destination down. Such an event fails as an
// outage does, and an outage is free (P6); if that cost the event nothing, it would
// never die, and shut the gate for all others again and again.
//
// What tells them apart is that others get through, while it fails or around it. That
// happens to the innocent, too: to the one that a short break of the link meets. So it
// takes two times, each with others that got through after it as well, and from then on
// each costs an attempt. What failed before an outage, or with several others, is not
// blamed: many such events at once do look like an outage, and die when they are fewer.
type blame struct {
	busy atomic.Bool // something is known of an event: who gets through need not take the lock otherwise

	mu sync.Mutex // guards what follows; taken after the dispatcher's

	// Of the failures since the last event that got through.
	run    [shutAfter]ID // the first few events
	n      int           // of them
	beside []ID          // those whose attempt others got through beside
	out    bool          // the gate has shut

	times map[ID]int // how often an event failed, and others did not
}

// maxBlamed bounds the memory for events that were blamed (P7). It is far more than fail
// at a time; what is forgotten gets some more attempts for free.
const maxBlamed = 1024

// fails notes that the event could not reach the destination, and whether others have
// reached it during that attempt. It reports whether that is to cost it an attempt.
func (b *blame) fails(id ID, others bool) (costs bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy.Store(true)
	if b.n < len(b.run) && !slices.Contains(b.run[:b.n], id) {
		b.run[b.n] = id
		b.n++
	}
	if others && !b.out && len(b.beside) < maxBlamed && !slices.Contains(b.beside, id) {
		b.beside = append(b.beside, id)
	}
	if b.times[id] < 2 {
		return false
	}
	b.times[id]--
	return true
}

// suspects reports whether the event has failed where others did not: it goes alone, so
// that others do not share its fate.
func (b *blame) suspects(id ID) bool {
	if !b.busy.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.times[id] > 0
}

// outage notes that the gate has shut. Others did get through beside what is under way
// then, but before the link broke.
func (b *blame) outage() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beside, b.out = b.beside[:0], true
}

// passes notes that the event got through.
func (b *blame) passes(id ID) {
	if !b.busy.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n < len(b.run) {
		for _, failed := range b.run[:b.n] {
			if !slices.Contains(b.beside, failed) {
				b.beside = append(b.beside, failed)
			}
		}
	}
	for _, failed := range b.beside {
		if b.times == nil || len(b.times) >= maxBlamed {
			b.times = map[ID]int{}
		}
		b.times[failed]++
	}
	b.n, b.beside, b.out = 0, b.beside[:0], false
	delete(b.times, id)
	b.busy.Store(len(b.times) > 0)
}
