package outbox

import "context"

// Typed makes a [Publisher] of a function that takes the payload as a T, read by
// [Event.Decode]. A payload that does not decode never will: the event is a dead letter
// at once ([Permanent]). The event that f gets has everything else. Typed(nil) is nil.
func Typed[T any](f func(ctx context.Context, payload T, e Event) error) Publisher {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, e Event) error {
		var payload T
		if err := e.Decode(&payload); err != nil {
			return Permanent(err)
		}
		return f(ctx, payload, e)
	}
}

// Handle is [Mux.Handle] for a function that takes the payload as a T, see [Typed]:
//
//	err := outbox.Handle(mux, "order.created", func(ctx context.Context, o Order, e outbox.Event) error {
func Handle[T any](m *Mux, pattern string, f func(ctx context.Context, payload T, e Event) error, opts ...Option) error {
	return m.Handle(pattern, Typed(f), opts...)
}
