package outbox

import "cmp"

// A drain sees an event once. One that could not be reached its destination with, while
// others got through, may be what brings the destination down, or the link may have
// broken while it was under way. What tells is whether anything gets through after it; so
// the verdict waits for that, or for the end of the drain (P6).

// heldBack is an event whose verdict waits.
type heldBack struct {
	task   Task
	result result
	passed uint64 // how many had got through by then
}

// holdBack puts a verdict off.
func (d *dispatcher) holdBack(t Task, r result) {
	passed := d.passed.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	t.Payload = nil // is not needed any more
	d.held = append(d.held, heldBack{t, r, passed})
}

// settleHeldLocked decides on what was held back, when no attempt is under way any more.
func (d *dispatcher) settleHeldLocked() {
	for i := range d.held {
		h := &d.held[i]
		if d.passed.Load() > h.passed {
			h.result.class = refused
		}
		out := d.conf.outcome(&h.task, h.result)
		if h.result.class == unavailable {
			out.Delay = 0
			d.outage = cmp.Or(d.outage, h.result.err)
		}
		d.dest.failed(h.result, out.Verdict)
		d.bookLocked(out)
		d.frees = true
	}
}
