package outbox

import (
	"context"
	"log/slog"
	"runtime/debug"
)

// WithHeaders has f say which headers an event gets from the context of the call that
// accepts it, of Enqueue, EnqueueBatch, Do: a trace's, a tenant's. Headers of
// [WithDefaults], of the event itself and of [WithHeader] hold against those of the same
// name. The map is only read.
//
// To carry a trace from the caller to the publisher with OpenTelemetry:
//
//	outbox.WithHeaders(func(ctx context.Context) map[string]string {
//		carrier := propagation.MapCarrier{}
//		otel.GetTextMapPropagator().Inject(ctx, carrier)
//		return carrier
//	})
//
// and in the publisher Extract from propagation.MapCarrier(e.Headers).
//
// A header without a name is left out. f is called once for each call, in the caller's goroutine. If it panics the event is
// accepted without its headers, and that is logged, the first time.
func WithHeaders(f func(ctx context.Context) map[string]string) Option {
	return func(c *config) { c.headers = f }
}

// headersOf asks the option for the headers of a call.
func (o *Outbox) headersOf(ctx context.Context) (headers map[string]string) {
	if o.headers == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			headers = nil
			o.headersPanic.Do(func() {
				o.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "outbox: WithHeaders panicked, accepted without",
					slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			})
		}
	}()
	return o.headers(ctx)
}

// addHeaders adds what is missing.
func (t *Task) addHeaders(from map[string]string) {
	for name, value := range from {
		if _, known := t.Headers[name]; !known && name != "" {
			WithHeader(name, value)(t)
		}
	}
}
