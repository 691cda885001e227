package outbox

import "context"

// Topic is one event name together with the type of its payload, so that the
// compiler sees what is handed in. It adds nothing else to [Outbox.Enqueue]: the
// payload is encoded in the same way, and [Event.Decode] reads it. It is safe for
// concurrent use.
//
//	orders := outbox.NewTopic[Order](ob, "order.created")
//	id, err := orders.Enqueue(ctx, Order{ID: 7}, outbox.WithKey("customer-3"))
type Topic[T any] struct {
	o    *Outbox
	name string
	opts []EventOption
}

// NewTopic returns the topic of an event name. The options apply to all its events,
// after those of [WithDefaults] and before those of the event.
func NewTopic[T any](o *Outbox, name string, opts ...EventOption) *Topic[T] {
	return &Topic[T]{o, name, opts}
}

// Enqueue is [Outbox.Enqueue] for a payload of the topic's type.
func (t *Topic[T]) Enqueue(ctx context.Context, payload T, opts ...EventOption) (ID, error) {
	return t.o.Enqueue(ctx, t.name, payload, append(t.opts[:len(t.opts):len(t.opts)], opts...)...)
}
