package outbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// dispatcher is what Start, StartBatch and Drain run on. Three parts work on it:
//
//   - the loop, in the caller's goroutine, claims tasks and queues them;
//   - workers, at most Concurrency, take them from the queue and publish them. They
//     are started as they are needed, and stay until the stop;
//   - the settler hands outcomes to the store. Those that come in during one call
//     of Settle go with the next: the busier it is, the larger the batches.
//
// The queue, not a channel, joins them, and a worker hands in one outcome and takes
// the next task under one lock: that, and one allocation, is all that the
// dispatcher adds to an attempt.
type dispatcher struct {
	o       *Outbox
	dest    *destination                                          // where it publishes to
	conf    *config                                               // of the outbox, or of one destination of a Mux
	publish func(ctx context.Context, tasks []Task, errs []error) // contained: does not panic
	match   func(name string) bool                                // which events it publishes; nil = all
	among   *muxRun                                               // the destinations of which it is one; nil = no Mux
	batch   int                                                   // most tasks of one attempt
	bytes   int                                                   // most bytes of their payloads
	linger  time.Duration                                         // how long an attempt waits for more of them
	drain   bool                                                  // end when nothing is due, or at the first sign of an outage
	ahead   int                                                   // most tasks claimed but not begun
	lease   time.Duration
	caller  context.Context // ends when Start is to return
	ctx     context.Context // of attempts, settles and log lines: the caller's values without its end

	// wakeup has room for one: who sends does not wait, and that one is enough. All
	// parts send, the loop receives, nobody closes it.
	wakeup chan struct{}
	fresh  atomic.Bool   // something may have become claimable since the last claim
	passed atomic.Uint64 // events that got through
	blame  blame         // of events that bring the destination down
	quit   chan struct{} // closed by stop, as it begins
	done   chan struct{} // closed by the settler, as it ends

	// Of the loop alone.
	next     time.Time // when to look for work unasked
	failures int       // claims that failed in a row
	claimed  time.Time // when it last claimed
	earlier  time.Time // and the time before

	held  []heldBack // of a drain; guarded by mu
	total Drained    // of a drain; of the settler alone, until it is done

	mu       sync.Mutex // guards what follows; held for a few instructions, never during a call of the store, the publisher or the logger
	ready    sync.Cond  // workers wait for the queue
	settling sync.Cond  // the settler waits for outcomes

	queue   queue
	active  attempts // under way
	given   attempts // given up, and a late result would count
	ended   int      // events whose attempts have ended since the last claim
	before  int      // and between that and the one before
	workers int      // that run, without those given up
	idle    int      // of them, those that wait for the queue
	calling bool     // one was called and has not come yet
	limited          // by the limiter, if there is one
	lost    int      // goroutines of publishers given up

	outcomes  []Outcome // for the settler
	unsettled int       // those, and what it has in hand
	frees     bool      // settling those may make something claimable

	gate                gate
	hungry              bool  // the loop waits for the queue to get as low as
	low                 int   // this
	stopping            bool  // workers end when the queue is empty
	closing             bool  // the settler ends when there is no outcome
	failed              error // the settler has ended early
	claimErr, settleErr error // of the last call of the store; nil if it was well
	outage              error // the first sign of one
}

// newDispatcher prepares a dispatcher that publishes up to batch tasks at a time.
func (o *Outbox) newDispatcher(ctx context.Context, conf *config, publish func(context.Context, []Task, []error), batch int) *dispatcher {
	d := &dispatcher{
		o:       o,
		dest:    o.own,
		conf:    conf,
		publish: publish,
		batch:   batch,
		bytes:   conf.batchBytes,
		ahead:   max(conf.concurrency, minAhead),
		caller:  ctx,
		ctx:     context.WithoutCancel(ctx),
		wakeup:  make(chan struct{}, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	if batch > 1 {
		d.ahead, d.linger = max(d.ahead, aheadBatches*batch), conf.linger
	}
	d.lease = min(conf.lease(1+d.ahead/(conf.concurrency*batch))+d.linger, MaxLease)
	d.gate.ramp = conf.ramp
	d.ready.L, d.settling.L = &d.mu, &d.mu
	return d
}

// lease is how long a claim may last: the attempt, the attempts that the task waits
// for before, the time in which a late result counts, and a margin. That it is long
// costs nothing, for a restart ends it.
func (c *config) lease(waits int) time.Duration {
	if c.publishTimeout > MaxLease/time.Duration(waits+1) {
		return MaxLease
	}
	return min(c.publishTimeout*time.Duration(waits+1)+lateFor+time.Minute, MaxLease)
}

// run does all of it, and returns when everything has ended.
func (d *dispatcher) run() error {
	if d.caller.Err() != nil {
		return nil
	}
	leave := d.o.join(d)
	defer leave()
	d.startLimiter()
	go d.settle() // ends when stop says so, which waits for it
	err := d.loop()
	if failed := d.stop(); err == nil {
		err = failed
	}
	return err
}

// nudge says that something may have become claimable. It is on the path of every
// Enqueue, hence no lock.
func (d *dispatcher) nudge() {
	if !d.fresh.Load() && !d.fresh.Swap(true) {
		d.wake()
	}
}

// probeNow is Wake for one dispatcher.
func (d *dispatcher) probeNow() {
	d.mu.Lock()
	d.gate.wake()
	d.mu.Unlock()
	d.fresh.Store(true)
	d.wake()
}

// wake has the loop look at the plan again.
func (d *dispatcher) wake() {
	select {
	case d.wakeup <- struct{}{}:
	default:
	}
}

// loop claims, until the caller's context ends, the store fails for good, or a drain
// is through.
func (d *dispatcher) loop() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	d.next = time.Now()
	for d.caller.Err() == nil {
		p := d.plan(time.Now())
		if p.over {
			return p.err
		}
		if p.max > 0 {
			if err := d.claim(p); err != nil {
				return err
			}
			continue
		}
		timer.Reset(p.wait)
		select {
		case <-d.caller.Done():
		case <-d.wakeup:
		case <-timer.C:
		}
	}
	return nil
}

// stop lets everything end: gives back what was not begun, waits for the attempts
// under way, and then for the settler. It returns the error that has kept outcomes
// from being settled.
func (d *dispatcher) stop() error {
	close(d.quit)
	d.stopLimiter()
	d.mu.Lock()
	d.stopping = true
	d.releaseQueueLocked()
	d.ready.Broadcast()
	d.mu.Unlock()

	timer := time.NewTimer(0)
	defer timer.Stop()
	patience := time.Now().Add(grace)
	for {
		now := time.Now()
		overdue := d.giveUp(now)
		d.mu.Lock()
		rest := d.workers
		if d.atLimiter {
			if left := patience.Sub(now); left > 0 {
				overdue = min(overdue, left)
			} else {
				rest-- // it has nothing in hand
			}
		}
		d.mu.Unlock()
		if rest == 0 {
			break
		}
		timer.Reset(overdue)
		select {
		case <-d.wakeup:
		case <-timer.C:
		}
	}

	d.settleHeld()
	d.mu.Lock()
	d.closing = true
	d.settling.Signal()
	d.mu.Unlock()
	<-d.done
	return d.failed
}

// releaseQueueLocked gives back what was claimed but not begun, due at once.
func (d *dispatcher) releaseQueueLocked() {
	for {
		tasks, probe := d.queue.take(d.ahead, maxAheadBytes, nil)
		if len(tasks) == 0 {
			return
		}
		d.gate.forget(probe) // or the gate would wait for what will never come
		for _, t := range tasks {
			d.bookLocked(Outcome{ID: t.ID, Token: t.Token, Verdict: Release})
		}
		d.frees = true
	}
}

// stopped reports whether the dispatcher is to end. Who watches the caller's context
// may know before stop does.
func (d *dispatcher) stopped() bool {
	select {
	case <-d.quit:
		return true
	default:
		return d.caller.Err() != nil
	}
}
