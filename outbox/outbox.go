package outbox

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Outbox accepts events, keeps them in a [Store] until they are published, and
// publishes them. It is safe for concurrent use. Make one with [New].
//
// An Outbox owns no goroutine and nothing to close: goroutines live inside the
// calls of Start, StartBatch and Drain, and the store is closed by who opened it,
// after those have returned.
type Outbox struct {
	store Store
	config

	// mu guards changes of running, and destinations. Readers of running, among them
	// every Enqueue, take the slice as it is: it is replaced, never changed.
	mu      sync.Mutex
	running atomic.Pointer[[]*dispatcher]

	paused       atomic.Bool
	headersPanic sync.Once // was logged

	began        time.Time               // a moment before New ran: nothing happens 0 after it
	destinations map[string]*destination // by name; guarded by mu
	ranLast      atomic.Int64            // nanoseconds after began: when the last dispatcher ended
	own          *destination            // the one without a name
}

// New returns an outbox on a store. Several may share one store; what one accepts,
// another may publish. New panics if store is nil: there is nothing an outbox
// could do without.
func New(store Store, opts ...Option) *Outbox {
	if store == nil {
		panic("outbox: New was given a nil Store")
	}
	o := &Outbox{store: store, config: configure(opts)}
	o.running.Store(&[]*dispatcher{})
	o.began, o.destinations = time.Now().Add(-1), map[string]*destination{}
	o.own = o.destination("")
	o.watch()
	return o
}

// Wake says that now is a good time: "the link is up". Each Start and StartBatch
// of this outbox looks for work, and if it waits for its destination, probes it at
// once, even while an earlier probe still hangs if a publisher is free ([WithConcurrency]). Wake does not block and may be
// called at any time, as often as you like.
func (o *Outbox) Wake() {
	for _, d := range *o.running.Load() {
		d.probeNow()
	}
}

// nudge has every dispatcher look for work: something may have become claimable.
func (o *Outbox) nudge() {
	for _, d := range *o.running.Load() {
		d.nudge()
	}
}

// join makes d one of those that are woken, until leave is called.
func (o *Outbox) join(d *dispatcher) (leave func()) {
	o.swap(func(ds []*dispatcher) []*dispatcher { return append(ds, d) })
	unnotify := func() {}
	if n, ok := o.store.(Notifier); ok {
		unnotify = n.Notify(d.nudge)
	}
	return func() {
		unnotify()
		o.ranLast.Store(int64(time.Since(o.began)))
		o.swap(func(ds []*dispatcher) []*dispatcher {
			return slices.DeleteFunc(ds, func(other *dispatcher) bool { return other == d })
		})
	}
}

// swap replaces the slice of dispatchers by what f makes of a copy.
func (o *Outbox) swap(f func([]*dispatcher) []*dispatcher) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ds := f(slices.Clone(*o.running.Load()))
	o.running.Store(&ds)
}

// errNoPublisher is what a nil publisher gets.
var errNoPublisher = fmt.Errorf("%w: the publisher is nil", ErrInvalid)
