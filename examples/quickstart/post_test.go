package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/stretchr/testify/require"
)

// TestPost gives each answer to one event, and looks at what becomes of it.
func TestPost(t *testing.T) {
	t.Parallel()
	delivered := outbox.Drained{Delivered: 1}
	dead := outbox.Drained{Dead: 1}
	retried := outbox.Drained{Retried: 1, Waiting: 1}
	waits := outbox.Drained{Waiting: 1} // with no attempt spent
	for status, want := range map[int]outbox.Drained{
		200: delivered, 204: delivered,
		301: waits, 302: waits, 307: waits,
		400: dead, 413: dead, 415: dead, 422: dead,
		401: waits, 403: waits, 404: waits, 408: waits, 502: waits, 503: waits, 504: waits,
		409: retried, 429: retried, 500: retried,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/")
			w.WriteHeader(status)
		}))
		ob := outbox.New(mem.New())
		_, err := ob.Enqueue(t.Context(), "order.created", "payload")
		require.NoError(t, err)
		n, err := ob.Drain(t.Context(), post(server.URL))
		server.Close()
		require.Equal(t, want, n, "status %d", status)
		if want == waits {
			require.ErrorIs(t, err, outbox.ErrUnavailable, "status %d", status)
			require.ErrorContains(t, err, " answered "+strconv.Itoa(status))
		} else {
			require.NoError(t, err, "status %d", status)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	date := "Mon, 02 Mar 2026 06:00:00 GMT"
	for value, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-7":                            -7 * time.Second, // the outbox takes it for 0
		"99999999999":                   24 * time.Hour,
		"soon":                          0,
		"Mon, 02 Mar 2026 06:01:30 GMT": 90 * time.Second,
	} {
		h := http.Header{"Date": {date}, "Retry-After": {value}}
		require.Equal(t, want, retryAfter(h), "Retry-After: %s", value)
	}
	require.Zero(t, retryAfter(http.Header{"Retry-After": {date}}), "no clock to hold it against")
}
