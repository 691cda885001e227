package outbox

import "time"

// worker is one goroutine that publishes. Its buffers are used again and again.
type worker struct {
	d      *dispatcher
	cur    *attempt
	inside bool // the publisher is being called
	errs   []error
	outs   []Outcome
	sum    summary
}

// summary is what an attempt has shown, for all of its events together.
type summary struct {
	delivered int
	refused   bool
	down      error         // the destination could not be reached, and this is why
	after     time.Duration // with down: how long it wants to be left alone; 0 = not said
	frees     bool          // settling it may make something claimable: a retry, the next of its key, the next gap
}

// callWorkerLocked sees to it that a worker comes if something is queued. It calls
// one at a time, and whoever takes something calls the next: with a quick publisher
// one worker has done it all before others were awake, and a slow one has all of
// them busy within microseconds.
func (d *dispatcher) callWorkerLocked() {
	switch {
	case d.calling || d.atLimiter || !d.ripeLocked():
	case d.idle > 0:
		d.calling = true
		d.ready.Signal()
	case d.workers < d.conf.concurrency:
		d.calling = true
		d.workers++
		go d.work() // ends at the stop, which counts them; or with its publisher, see giveUp
	}
}

// work is a worker's life.
func (d *dispatcher) work() {
	w := &worker{d: d}
	defer w.gone()
	for w.next() && w.publish() {
	}
}

// next hands in the attempt that has ended and takes up another one, waiting for it
// if need be. It returns false when the worker is to end.
func (w *worker) next() bool {
	d := w.d
	a := new(attempt) // outside the lock
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.cur == nil {
		d.calling = false // it is me who was called
	} else if n := w.handInLocked(); n != nil {
		d.mu.Unlock()
		d.tell(n)
		d.mu.Lock()
	}
	for !d.ripeLocked() || d.atLimiter || !d.admittedLocked() || d.staleLocked() {
		if d.stopping {
			d.workers--
			d.wake()
			return false
		}
		if d.ripeLocked() && !d.atLimiter {
			d.admitLocked()
			continue
		}
		d.feedLocked()
		d.idle++
		d.ready.Wait()
		d.idle--
		d.calling = false
	}
	d.admitted = false
	a.tasks, a.probe = d.queue.take(d.batch, d.bytes, d.blame.suspects)
	a.passed = d.passed.Load()
	now := time.Now()
	a.start(d.ctx, now, d.conf.publishTimeout)
	d.dest.begins(len(a.tasks), now)
	if d.linger > 0 && d.queue.n > 0 {
		d.wake() // it measures how long the rest lingers
	}
	d.active.add(a)
	w.cur = a
	d.callWorkerLocked()
	d.feedLocked()
	return true
}

// staleLocked gives back what has waited in the queue for so long, for the limiter or for
// slow attempts, that its claim might end before the attempt does: it would be published
// by two.
func (d *dispatcher) staleLocked() bool {
	most := max(d.lease-d.conf.publishTimeout-lateFor, d.lease/2)
	if time.Since(d.queue.chunks[0].at) < most {
		return false
	}
	d.releaseQueueLocked()
	d.wake()
	return true
}

// feedLocked wakes the loop if it waits for room and there is some.
func (d *dispatcher) feedLocked() {
	if d.hungry && d.queue.n <= d.low {
		d.hungry = false
		d.wake()
	}
}

// publish makes the attempt and judges it. It returns false if the worker was given
// up meanwhile: another one has its place.
func (w *worker) publish() bool {
	a := w.cur
	w.errs = append(w.errs[:0], make([]error, len(a.tasks))...)
	w.inside = true
	w.d.publish(&a.timeLimit, a.tasks, w.errs)
	w.inside = false
	return w.judge()
}

// judge decides what becomes of the events of the attempt that has ended.
func (w *worker) judge() bool {
	a := w.cur
	a.stop()
	w.d.dest.ends(len(a.tasks))
	if a.ended.Swap(true) {
		w.late()
		return false
	}
	w.outs, w.sum = w.d.judge(a, w.errs, w.outs[:0])
	clear(a.tasks) // whoever still holds the context, or the rest of the chunk, holds no payload
	return true
}

// handInLocked books what became of the attempt.
func (w *worker) handInLocked() *news {
	a := w.cur
	w.cur = nil
	w.d.active.remove(a)
	w.d.ended += len(a.tasks)
	w.d.bookLocked(w.outs...)
	return w.d.noteLocked(a.probe, w.sum)
}

// gone takes over when a publisher has ended the goroutine instead of returning, as
// FailNow of a test does: the attempt has failed, and another worker comes.
func (w *worker) gone() {
	if !w.inside {
		return
	}
	for i := range w.errs {
		w.errs[i] = errGone
	}
	if !w.judge() {
		return
	}
	d := w.d
	d.mu.Lock()
	n := w.handInLocked()
	d.workers--
	d.callWorkerLocked()
	d.mu.Unlock()
	d.wake()
	d.tell(n)
}
