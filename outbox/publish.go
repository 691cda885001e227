package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"runtime/debug"
	"strings"
)

// Publisher delivers one event. It returns nil when the destination has taken it;
// then the event is gone. The kinds of errors are: [Permanent], [RetryAfter],
// [Unavailable], what counts as Unavailable by itself, and all others, which spend
// one attempt. A panic is an error that spends one attempt.
//
// It is called from several goroutines at a time (see [WithConcurrency]), and with
// the same event, under the same ID, until it has returned nil and the outbox has
// noted that: the receiver deduplicates on the ID (P2).
//
// It must not change the payload or the headers: in Do the payload is the caller's
// memory.
//
// ctx ends after the publish timeout, and must be obeyed. A publisher that goes on
// for a second more is given up, and its goroutine stays behind, so that the others
// can go on; as many as run at a time may be lost so, then nothing goes on until one
// returns, and [Outbox.Health] says so. Its result counts for another two minutes; after that, the attempt has
// timed out, and the event may be published again beside it.
type Publisher func(ctx context.Context, event Event) error

// Start publishes what the outbox holds and what it accepts, and blocks until ctx
// ends. Then it claims nothing more, gives back what it has not begun, lets the
// attempts under way finish (each has its publish timeout, and a second if it does
// not obey), settles them, and returns nil: a stop is not an error, and an attempt
// that it cut short counts for nothing.
//
// Values of ctx reach the publisher, its end does not.
//
// Any number of Start, StartBatch and Drain may run on one outbox, with the same
// publisher or with different ones: each event goes to one of them. Start may be
// called again after it has returned.
//
// Errors: [ErrInvalid] for a nil publisher; [ErrClosed], [ErrPoisoned] and
// [ErrCorrupt] as soon as the store says so. Other errors of the store are logged,
// and the call tried again, less and less often.
func (o *Outbox) Start(ctx context.Context, p Publisher) error {
	if p == nil {
		return errNoPublisher
	}
	return o.newDispatcher(ctx, &o.config, p.each, 1).run()
}

// each publishes tasks one after another; a dispatcher gives it one at a time.
func (p Publisher) each(ctx context.Context, tasks []Task, errs []error) {
	for i := range tasks {
		errs[i] = p.contained(ctx, tasks[i].Event)
	}
}

// contained calls p and turns a panic into an error.
func (p Publisher) contained(ctx context.Context, e Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return p(ctx, e)
}

// panicError is a panic of a publisher. It unwraps to nothing: what the publisher has
// panicked with is no answer of the destination, a marked error no more than others.
// The stack goes to the log, not into the event's history.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("publisher panicked: %v", e.value) }

var (
	// errGone is the error of an attempt whose publisher has ended its goroutine.
	errGone = errors.New("publisher ended its goroutine (runtime.Goexit, or FailNow of a test)")
	// errHangs is the error of an attempt that was given up. It counts as a timeout.
	errHangs = fmt.Errorf("publisher does not obey its context: %w", context.DeadlineExceeded)
)

// Untyped makes a [Publisher] of a function of the shape that goutbox began with.
// The payload is what encoding/json makes of the stored bytes, on every attempt
// alike: a map[string]any for a struct, a float64 for a number. A payload with a
// content type other than JSON arrives as []byte. One that does not decode is a
// dead letter at once. Untyped(nil) is nil.
func Untyped(f func(ctx context.Context, eventName string, payload any) error) Publisher {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, e Event) error {
		if !isJSON(e.ContentType) {
			return f(ctx, e.Name, e.Payload)
		}
		var payload any
		if err := json.Unmarshal(e.Payload, &payload); err != nil {
			return Permanent(fmt.Errorf("decode payload: %w", err))
		}
		return f(ctx, e.Name, payload)
	}
}

// isJSON reports whether the content type, parameters aside, is JSON or built on it.
func isJSON(contentType string) bool {
	if contentType == typeJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == typeJSON || strings.HasSuffix(media, "+json"))
}
