package outbox

import (
	"fmt"
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

	// mu guards changes of running, unnotify, and destinations. Readers of running, among
	// them every Enqueue, take it as it is: it is replaced, never changed.
	mu       sync.Mutex
	running  atomic.Pointer[audience]
	unnotify func() // ends what the store tells; nil while nobody runs
	named    bool   // the store is a NameNotifier: it wakes whom its calls concern

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
	o.running.Store(newAudience(nil))
	_, o.named = store.(NameNotifier)
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
	for _, d := range o.running.Load().all {
		d.probeNow()
	}
}

// errNoPublisher is what a nil publisher gets.
var errNoPublisher = fmt.Errorf("%w: the publisher is nil", ErrInvalid)
