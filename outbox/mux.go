package outbox

import (
	"fmt"
	"maps"
	"sync"
)

// Mux sends events to destinations by their names, for [Outbox.StartMux] and
// [Outbox.DrainMux]. Each [Destination] has a gate of its own, workers, a limiter and a
// ramp, so that one that is dead, slow or at its limit does not stop the others (P6).
//
//	mux := outbox.NewMux()
//	cloud := mux.Destination("cloud", outbox.WithConcurrency(4), outbox.WithLimiter(l))
//	err := cloud.Handle("reading.*", post)
//	err = cloud.Handle("alarm.raised", postAtOnce)
//	err = mux.Handle("audit.*", appendToFile)
//	err = ob.StartMux(ctx, mux)
//
// A pattern is a name, or what a name begins with, up to a dot, and a star: "order.*"
// has "order.created" and "order.item.added", but not "order" or "orders.created". The
// name itself comes first, then the longest such pattern, and "*" last, which has all
// the rest. An event whose name nobody handles is not skipped: it becomes a dead letter
// ([ReasonUnhandled]) with no attempt spent, can be requeued when there is a handler,
// and is logged at Error.
//
// While a Mux runs, nothing can be added to it: what it did not know for a moment would
// be dead. It is safe for concurrent use, may run on several outboxes, and again after it
// has stopped. The zero Mux is empty and ready.
type Mux struct {
	// mu guards what follows. While running is not zero nothing of it changes, and
	// events are routed without it.
	mu           sync.Mutex
	running      int
	destinations []*Destination
	routes
	lent bool // the maps of routes may be read without mu at any time: they stay as they are
}

// NewMux returns an empty Mux.
func NewMux() *Mux { return new(Mux) }

// Destination is one place that a [Mux] sends events to. What has a fate in common
// belongs to one destination: the same server, the same account, the same rate limit.
type Destination struct {
	mux  *Mux
	name string
	opts []Option
	kind kind
}

// kind says what a destination takes.
type kind uint8

const (
	undecided kind = iota
	single
	batches
)

// Destination returns the destination of that name, and makes it if there is none. Its
// name is that of [Outbox.Destinations] and of the log.
//
// The options override those of [New] for this destination, and come after those given
// for it before: WithConcurrency, WithBatch, WithPublishTimeout, WithBackoff, WithLimiter,
// WithRamp, NoRamp, WithLoopInterval and WithLogger. Those of accepting, and observers,
// mean nothing here. What New was given and the destination was not holds for it as
// well; so a limiter of New is one for all. They take effect when the Mux is started.
func (m *Mux) Destination(name string, opts ...Option) *Destination {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.findLocked(name)
	if d == nil {
		d = &Destination{mux: m, name: name}
		m.destinations = append(m.destinations, d)
	}
	d.opts = append(d.opts, opts...)
	return d
}

// findLocked returns the destination of that name, or nil.
func (m *Mux) findLocked(name string) *Destination {
	for _, d := range m.destinations {
		if d.name == name {
			return d
		}
	}
	return nil
}

// Handle has p publish the events whose names match the pattern, here. A destination
// takes either single events or batches.
//
// Errors: [ErrInvalid] for a pattern that is empty, malformed or taken, a nil publisher,
// a destination without a name or one that takes batches, and while the Mux runs.
// Nothing has changed then.
func (d *Destination) Handle(pattern string, p Publisher) error {
	if p == nil {
		return errNoPublisher
	}
	return d.handle(pattern, &route{dest: d, one: p}, single)
}

// HandleBatch is [Destination.Handle] for a publisher that takes several events at a
// time, as with [Outbox.StartBatch]. Of events claimed together that belong to different
// batch publishers of the destination, each gets its own, one publisher after the
// other, within one publish timeout and one wait for the limiter.
func (d *Destination) HandleBatch(pattern string, p BatchPublisher) error {
	if p == nil {
		return errNoPublisher
	}
	return d.handle(pattern, &route{dest: d, all: p}, batches)
}

// Handle makes a destination that is named as the pattern, and has it handle that.
func (m *Mux) Handle(pattern string, p Publisher, opts ...Option) error {
	if err := m.check(pattern, p == nil); err != nil {
		return err
	}
	return m.Destination(pattern, opts...).Handle(pattern, p)
}

// HandleBatch is [Mux.Handle] for a publisher that takes several events at a time.
func (m *Mux) HandleBatch(pattern string, p BatchPublisher, opts ...Option) error {
	if err := m.check(pattern, p == nil); err != nil {
		return err
	}
	return m.Destination(pattern, opts...).HandleBatch(pattern, p)
}

// check looks for what is wrong before a destination is made for it.
func (m *Mux) check(pattern string, none bool) error {
	if none {
		return errNoPublisher
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, err := m.placeLocked(pattern)
	return err
}

// handle adds a route.
func (d *Destination) handle(pattern string, r *route, k kind) error {
	m := d.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case d.name == "":
		return fmt.Errorf("%w: the destination of pattern %q has no name", ErrInvalid, pattern)
	case d.kind != undecided && d.kind != k:
		return fmt.Errorf("%w: destination %q takes either single events or batches, not both", ErrInvalid, d.name)
	}
	at, key, err := m.placeLocked(pattern)
	if err != nil {
		return err
	}
	if m.lent {
		m.routes = routes{maps.Clone(m.exact), maps.Clone(m.prefix)}
		m.lent = false
	}
	d.kind = k
	if *at == nil {
		*at = map[string]*route{}
	}
	(*at)[key] = r
	return nil
}
