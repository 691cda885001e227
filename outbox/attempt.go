package outbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// attempt is one call of a publisher: with one event, or with a batch.
type attempt struct {
	timeLimit // the context that the publisher gets

	tasks  []Task // InFlight, claimed by us
	probe  uint64 // the gate's number for it, if it is a probe
	passed uint64 // how many events had got through when it began

	// ended is set by its worker when the publisher has returned, or by the loop when
	// it gives the attempt up. Who finds it unset decides what became of the events.
	ended atomic.Bool

	// Guarded by the dispatcher's mu.
	prev, next *attempt // in the list of those under way, or that of those given up
	settled    bool     // given up, and a late result would come too late
}

// timeLimit is a context that ends after the publish timeout, or with its parent.
//
// context.WithTimeout would do the same and start a timer for each attempt. This
// one starts it when somebody asks for Done, so that a publisher that never does
// pays for one allocation only, that of the attempt. A context may outlive the
// attempt in the hands of the publisher's goroutines, so it is never used twice.
type timeLimit struct {
	parent  context.Context
	timeout time.Duration
	end     time.Time // by the timeout

	mu     sync.Mutex // guards what follows
	inner  context.Context
	cancel context.CancelFunc // of inner
	over   bool               // the attempt has ended
}

// start sets the context up, once, before anybody else sees it.
func (c *timeLimit) start(parent context.Context, now time.Time, timeout time.Duration) {
	c.parent, c.timeout, c.end = parent, timeout, now.Add(timeout)
}

// took is how long it has been.
func (c *timeLimit) took() time.Duration { return time.Since(c.end.Add(-c.timeout)) }

// stop ends the context because the attempt has ended.
func (c *timeLimit) stop() {
	c.mu.Lock()
	c.over = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// innerLocked returns the context that does the work, from now on.
func (c *timeLimit) innerLocked() context.Context {
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.parent, c.end)
		if c.over {
			c.cancel()
		}
	}
	return c.inner
}

// Deadline implements [context.Context].
func (c *timeLimit) Deadline() (time.Time, bool) {
	if end, ok := c.parent.Deadline(); ok && end.Before(c.end) {
		return end, true
	}
	return c.end, true
}

// Done implements [context.Context].
func (c *timeLimit) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.innerLocked().Done()
}

// Err implements [context.Context]. Once it is not nil it comes from the inner
// context, and so stays the same.
func (c *timeLimit) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil && !c.over && c.parent.Err() == nil && time.Now().Before(c.end) {
		return nil
	}
	return c.innerLocked().Err()
}

// Value implements [context.Context]. Through it package context finds the inner
// one and hangs the contexts derived from this one under it, without a goroutine
// for each.
func (c *timeLimit) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

// attempts is a list of attempts, the oldest first. All have the same
// time limit, so the oldest is the first to run out of it.
type attempts struct {
	first, last *attempt
	n           int
}

func (l *attempts) add(a *attempt) {
	a.prev = l.last
	if l.last == nil {
		l.first = a
	} else {
		l.last.next = a
	}
	l.last = a
	l.n++
}

func (l *attempts) remove(a *attempt) {
	if a.prev == nil {
		l.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		l.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.prev, a.next = nil, nil
	l.n--
}
