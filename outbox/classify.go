package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// class is what an attempt has shown.
type class uint8

const (
	delivered   class = iota // the destination has taken the event
	refused                  // it was there and did not take it: an attempt is spent
	permanent                // it never will take it
	unavailable              // it was not there: nothing is known of the event (P6)
	cut                      // the stop, or the caller's context, ended the attempt
	unhandled                // nobody was there to make one
)

// result is how an attempt ended for one event.
type result struct {
	class class
	after time.Duration // of refused and unavailable: how long the destination wants to be left alone; 0 = not said
	ended bool          // the error is that of a context that has ended
	alone bool          // of unavailable: others got through meanwhile, so it says nothing of the destination
	err   error
	text  string        // of err, within MaxErrorBytes
	took  time.Duration // of an attempt of Do
}

// attempt is what observers hear of it.
func (r result) attempt(t *Task, out Outcome, destination string, took time.Duration) Attempt {
	return Attempt{Task: *t, Destination: destination, Took: took,
		Verdict: out.Verdict, Reason: out.Reason, Delay: out.Delay, Err: r.err}
}

// classify reads the error that a publisher returned. A mark counts before what
// the outbox finds by itself, the outermost mark before those inside.
//
// Errors are the application's code: one whose methods panic (a nil pointer in an
// error value is easily made) is an error like any other.
func classify(err error) (r result) {
	if err == nil {
		return result{class: delivered}
	}
	r = result{class: refused, err: err}
	defer func() {
		if v := recover(); v != nil {
			r = result{class: refused, err: err, text: fmt.Sprintf("publisher returned a %T that panics: %v", err, v)}
		}
	}()
	r.text = clip(err.Error())
	timeout := errors.Is(err, context.DeadlineExceeded)
	r.ended = timeout || errors.Is(err, context.Canceled)
	var m *marked
	switch {
	case errors.As(err, &m):
		r.class, r.after = m.class, max(m.after, 0)
		if inner := (*marked)(nil); r.class == unavailable && errors.As(m.error, &inner) {
			r.after = max(inner.after, 0)
		}
	case errors.Is(err, ErrUnavailable) || timeout || unreachable(err, false):
		r.class = unavailable
	}
	return r
}

// unreachable reports whether err, or an error it wraps, says by itself that the
// destination could not be reached, or did not answer in time. onWire: the error
// comes from a network connection.
//
// errors.As for a net.Error is not enough, for its method set is met too widely: by
// *url.Error, around whatever an HTTP client returns, and by every syscall.Errno, a
// missing file included. So the tree is walked.
func unreachable(err error, onWire bool) bool {
	switch e := err.(type) {
	case nil:
		return false
	case *url.Error:
		return e.Timeout() || unreachable(e.Err, true)
	case syscall.Errno:
		return e.Timeout() || slices.Contains(errnosOfNetwork, e)
	case net.Error: // *net.OpError, *net.DNSError, the deadlines of packages context and os
		return true
	case interface{ Timeout() bool }:
		if e.Timeout() {
			return true
		}
	}
	if slices.Contains(errorsOfTLS, fmt.Sprintf("%T", err)) {
		return true
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		// The peer has hung up. Without a connection around it, it is more likely
		// that the payload is cut, and that would be the event's own fault.
		return onWire
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return unreachable(e.Unwrap(), onWire)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return unreachable(err, onWire) })
	}
	return false
}

// errorsOfTLS are the types of errors that end a TLS handshake: nothing was sent, so
// nothing is known of the event. A device that boots in 1970 meets them until it knows
// the time (P12), and one behind a captive portal until somebody has logged in. They go by
// name, for importing crypto/tls would add a megabyte to programs that do not use it.
var errorsOfTLS = []string{
	"x509.CertificateInvalidError", "x509.HostnameError", "x509.UnknownAuthorityError",
	"*tls.CertificateVerificationError", "tls.RecordHeaderError",
}

// errnosOfNetwork are the bare errors of the system that count. On Windows those
// of sockets have other numbers, but package net wraps them in a *net.OpError.
var errnosOfNetwork = []syscall.Errno{
	syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
	syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.EHOSTDOWN,
}
