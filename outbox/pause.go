package outbox

// Pause stops publishing: for an upgrade of the destination, for a metered link. No
// attempt is begun any more; those under way end and are settled; what was claimed but
// not begun waits again. Accepting goes on, and nothing is written for what waits. A
// Drain that runs, or is called, ends with [ErrPaused]; [Outbox.Do] stores the event and
// makes no attempt; [Outbox.Wake] does not resume.
//
// It does not block, and holds for this Outbox and this process only. Pausing what is
// paused changes nothing.
func (o *Outbox) Pause() {
	o.paused.Store(true)
	for _, d := range o.running.Load().all {
		d.mu.Lock()
		d.releaseQueueLocked()
		d.mu.Unlock()
		d.wake()
	}
}

// Resume ends what Pause has begun: what is due is published at once.
func (o *Outbox) Resume() {
	if o.paused.Swap(false) {
		o.Wake()
	}
}

// Paused reports whether the outbox is paused.
func (o *Outbox) Paused() bool { return o.paused.Load() }
