package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// StartMux is [Outbox.Start] with a [Mux] in place of the one publisher: it blocks until
// ctx ends, and then until every destination has stopped. Concurrency and the other
// limits of publishing are those of each destination.
//
// All events must be for this Mux: one that it does not handle becomes a dead letter,
// also if another Start, or the Mux of another program on the same store, would have
// taken it. Events of one Key keep their order across destinations (P4), so one whose
// destination is away holds up those of its key that are for others.
//
// Errors: those of Start, of the first destination that has one, which stops the others;
// [ErrInvalid] for a Mux that is nil or has no pattern.
func (o *Outbox) StartMux(ctx context.Context, m *Mux) error {
	if err := m.begin(); err != nil {
		return err
	}
	defer m.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return runAll(o.muxDispatchers(ctx, m), cancel)
}

// DrainMux is [Outbox.Drain] with a [Mux]: a destination that cannot be reached is left
// as soon as that is seen, and the others are drained all the same. The error is then
// [ErrUnavailable] around the causes, each with the name of its destination. The other
// errors are those of Drain and of [Outbox.StartMux].
func (o *Outbox) DrainMux(ctx context.Context, m *Mux) (n Drained, err error) {
	if err := m.begin(); err != nil {
		return n, err
	}
	defer m.end()
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	// Each destination ends when nothing is due for it. The delivery of one may have let
	// an event of the same key go that is for another: so again, until nothing moves.
	var outages []error
	away := map[string]bool{}
	for {
		var ds []*dispatcher
		for _, d := range o.muxDispatchers(running, m) {
			if !away[d.dest.name] {
				d.drain = true
				ds = append(ds, d)
			}
		}
		err = runAll(ds, cancel)
		moved := false
		for _, d := range ds {
			n.plus(d.total)
			moved = moved || d.total.Delivered+d.total.Dead > 0
			if out := d.drainOutage(); out != nil {
				away[d.dest.name] = true
				outages = append(outages, fmt.Errorf("destination %q: %w", d.dest.name, out))
			}
		}
		if err != nil || ctx.Err() != nil || !moved {
			break
		}
	}
	return n, o.drained(ctx, &n, err, errors.Join(outages...))
}

// runAll runs dispatchers side by side. The first error ends them all.
func runAll(ds []*dispatcher, cancel context.CancelFunc) (first error) {
	var all sync.WaitGroup
	var once sync.Once
	for _, d := range ds {
		all.Go(func() { // ends with the dispatcher
			if err := d.run(); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	all.Wait()
	return first
}

// begin keeps the Mux as it is until end.
func (m *Mux) begin() error {
	if m == nil {
		return fmt.Errorf("%w: the mux is nil", ErrInvalid)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.exact)+len(m.prefix) == 0 {
		return fmt.Errorf("%w: the mux has no pattern", ErrInvalid)
	}
	m.running++
	m.lent = true // who is told of an event in the last moment of a run still reads it
	return nil
}

func (m *Mux) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
}

// muxDispatchers prepares one dispatcher for each destination, and one for what nobody
// handles.
func (o *Outbox) muxDispatchers(ctx context.Context, m *Mux) (ds []*dispatcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	run := &muxRun{routes: m.routes, to: map[*Destination]*dispatcher{}}
	for _, dest := range m.destinations {
		if dest.kind == undecided {
			continue // nothing is for it
		}
		conf, batch := o.config.with(dest.opts), 1
		if dest.kind == batches {
			batch = conf.batchEvents
		}
		d := o.newDispatcher(ctx, &conf, m.publish, batch)
		d.dest, d.match, d.among = o.destination(dest.name), dest.matches, run
		run.to[dest] = d
		ds = append(ds, d)
	}
	if m.prefix[""] == nil {
		conf := o.config.with([]Option{WithConcurrency(1), WithLimiter(nil), WithBatch(0, 0, 0)})
		conf.gaps = false // nobody to be told: each would be a dead letter, and another come after it
		d := o.newDispatcher(ctx, &conf, m.publish, defaultBatchEvents)
		d.dest, d.match, d.among = &destination{began: o.began, unlisted: true}, m.unhandled, run
		run.rest = d
		ds = append(ds, d)
	}
	return ds
}
