package outbox

import "time"

// Permanent marks an error that no further attempt can change: a [Publisher] that
// returns it makes the event a dead letter now. Of several marks around an error
// the outermost counts. Permanent(nil) is nil.
func Permanent(err error) error { return mark(err, permanent, 0) }

// Unavailable marks an error that says nothing about the event: the destination
// cannot be reached. It spends no attempt (P6). The result also Is
// [ErrUnavailable]. Unavailable(nil) is nil.
//
// Connections refused, reset or timed out and failed lookups of the standard
// library need no mark. Use it for the errors of other libraries ("not
// connected"), and for answers that mean the same, such as HTTP 502 and 503; see
// [HTTPError]. A destination that says for how long it will be away is left alone for
// that time, an hour at most, if err is marked with [RetryAfter] inside:
// Unavailable(RetryAfter(err, d)).
func Unavailable(err error) error { return mark(err, unavailable, 0) }

// RetryAfter marks an error with which the destination has put the event off, as
// HTTP 429 does. It spends an attempt; the next one comes after d. If d is zero or
// negative the [Backoff] decides. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error { return mark(err, refused, d) }

// marked is an error whose kind a publisher has stated. One type for all three
// marks: errors.As then finds the outermost.
type marked struct {
	error
	class class
	after time.Duration
}

func mark(err error, c class, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &marked{err, c, after}
}

func (m *marked) Unwrap() error { return m.error }

func (m *marked) Is(target error) bool {
	return m.class == unavailable && target == ErrUnavailable
}
