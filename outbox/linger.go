package outbox

import "time"

// A batch that is not full waits in the queue, for so long as the user wants, while the
// loop goes on claiming: see WithBatch. The workers do not see it before it is ripe.

// ripeLocked reports whether a worker is to take from the queue now.
func (d *dispatcher) ripeLocked() bool {
	return d.queue.n > 0 && (d.linger == 0 || d.lingersLocked(time.Now()) <= 0)
}

// lingersLocked returns how long the first of the queue, which is not empty, is still
// to wait for others. A probe waits for nobody, and nothing waits at the end.
func (d *dispatcher) lingersLocked(now time.Time) time.Duration {
	q := &d.queue
	if d.linger == 0 || d.drain || d.stopping || q.n >= d.batch || q.bytes >= d.bytes || q.chunks[0].probe != 0 {
		return 0
	}
	return q.chunks[0].at.Add(d.linger).Sub(now)
}

// gathersLocked reports whether the loop gathers a batch that is not full yet.
func (d *dispatcher) gathersLocked(now time.Time) bool {
	return d.linger > 0 && d.unsettled < maxUnsettled && (d.queue.n == 0 || d.lingersLocked(now) > 0)
}

// lingerLocked calls a worker for a batch that is ripe by now, and returns how long
// until the next one is.
func (d *dispatcher) lingerLocked(now time.Time) time.Duration {
	if d.linger == 0 || d.queue.n == 0 {
		return Forever
	}
	if left := d.lingersLocked(now); left > 0 {
		return left
	}
	d.callWorkerLocked() // without one that is free, the next to be takes it
	return Forever
}
