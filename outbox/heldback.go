package outbox

import (
	"cmp"
	"time"
)

// A drain sees an event once. One that its destination could not be reached with, while
// others got through, may be what brings the destination down, or the link may have
// broken while it was under way. What tells is whether anything gets through after it; so
// the verdict waits for that, or for the end of the drain (P6).

// heldBack is an event whose verdict waits.
type heldBack struct {
	task   Task
	result result
	took   time.Duration
	passed uint64 // how many had got through by then
}

// maxHeld bounds how many are held back (P7). The others are released, for free.
const maxHeld = 1024

// holdBack puts a verdict off, if it is one of those that wait.
func (d *dispatcher) holdBack(t *Task, r result, took time.Duration) bool {
	if !d.drain || r.class != unavailable || !r.alone || d.stopped() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held) >= maxHeld {
		return false
	}
	d.held = append(d.held, heldBack{*t, r, took, d.passed.Load()})
	return true
}

// settleHeld decides on what was held back, when no attempt is under way any more.
func (d *dispatcher) settleHeld() {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
	var outs []Outcome
	var away error
	for i := range held {
		h := &held[i]
		if d.passed.Load() > h.passed {
			h.result.class = refused
		} else {
			away = cmp.Or(away, h.result.err)
		}
		outs = append(outs, d.decide(&h.task, h.result, false, h.took))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outage = cmp.Or(d.outage, away)
	d.frees = d.frees || len(outs) > 0
	d.bookLocked(outs...)
}
