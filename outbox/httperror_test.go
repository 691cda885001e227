package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

func TestHTTPError_Status(t *testing.T) {
	want := map[int]outbox.Verdict{}
	for status := 100; status < 600; status++ {
		want[status] = outbox.Retry
	}
	for status := 200; status < 300; status++ {
		want[status] = outbox.Done
	}
	for _, status := range []int{408, 502, 503, 504, 521, 522, 523, 524} {
		want[status] = outbox.Release
	}
	for _, status := range []int{400, 410, 413, 414, 415, 422, 431, 451} {
		want[status] = outbox.Bury
	}
	for status := 100; status < 600; status++ {
		err := outbox.HTTPError(status, nil)
		if want[status] == outbox.Done {
			require.NoError(t, err, status)
			continue
		}
		require.EqualError(t, err, fmt.Sprintf("HTTP status %d", status))
		require.Equal(t, want[status] == outbox.Release, errors.Is(err, outbox.ErrUnavailable), status)
	}
	for _, status := range []int{302, 400, 401, 403, 404, 408, 409, 410, 422, 425, 429, 500, 501, 503} {
		require.Equal(t, want[status], outcome(t, fmt.Errorf("post: %w", outbox.HTTPError(status, nil))).Verdict, status)
	}
}

func TestHTTPError_RetryAfter(t *testing.T) {
	now := time.Now().UTC()
	for _, c := range []struct {
		name        string
		after, date string
		least, most time.Duration
	}{
		{"not there", "", "", time.Hour, time.Hour}, // by the backoff
		{"seconds", "120", "", 2 * time.Minute, 2 * time.Minute},
		{"with spaces", " 120 ", "", 2 * time.Minute, 2 * time.Minute},
		{"none", "0", "", time.Hour, time.Hour},
		{"negative", "-5", "", time.Hour, time.Hour},
		{"fraction", "1.5", "", time.Hour, time.Hour},
		{"nonsense", "soon", "", time.Hour, time.Hour},
		{"a month", "2592000", "", 24 * time.Hour, 24 * time.Hour},
		{"out of range", "99999999999999999999999", "", 24 * time.Hour, 24 * time.Hour},
		{"date", now.Add(10 * time.Minute).Format(http.TimeFormat), "", 9 * time.Minute, 10 * time.Minute},
		{"date that is past", now.Add(-10 * time.Minute).Format(http.TimeFormat), "", time.Hour, time.Hour},
		{"our clock is behind", "Wed, 01 Jan 2098 00:01:00 GMT", "Wed, 01 Jan 2098 00:00:00 GMT", time.Minute, time.Minute},
		{"our clock is ahead", "Sat, 01 Jan 2000 00:01:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", time.Minute, time.Minute},
		{"our clock is behind, and no date", "Wed, 01 Jan 2098 00:01:00 GMT", "", 24 * time.Hour, 24 * time.Hour},
		{"RFC 850", "Saturday, 01-Jan-00 00:01:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", time.Minute, time.Minute},
		{"asctime", "Sat Jan  1 00:01:00 2000", "Sat, 01 Jan 2000 00:00:00 GMT", time.Minute, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{}
			header.Set("Retry-After", c.after)
			header.Set("Date", c.date)
			delay := outcome(t, outbox.HTTPError(http.StatusTooManyRequests, header)).Delay
			require.GreaterOrEqual(t, delay, c.least)
			require.LessOrEqual(t, delay, c.most)
		})
	}
	// Names of HTTP/2, as other clients than net/http hand them over.
	require.Equal(t, time.Minute, outcome(t, outbox.HTTPError(429, map[string][]string{"retry-after": {"60"}})).Delay)
	require.Equal(t, time.Hour, outcome(t, outbox.HTTPError(429, map[string][]string{"Retry-After": nil})).Delay)
}

// A destination that says for how long it is away is not probed before, and need not
// say it three times.
func TestOutage_RetryAfter(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer error
		after  time.Duration // of the probe
	}{
		{"HTTP 503", outbox.HTTPError(503, http.Header{"Retry-After": {"600"}}), 10 * time.Minute},
		{"marks", outbox.Unavailable(fmt.Errorf("away: %w", outbox.RetryAfter(errRefused, 10*time.Minute))), 10 * time.Minute},
		{"an hour at most", outbox.Unavailable(outbox.RetryAfter(errRefused, 100*time.Hour)), time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithConcurrency(1))
				r := f.receiver(answers(c.answer, c.answer, nil))
				f.start(r.publish)
				f.enqueueMany("e", 10)
				time.Sleep(24 * time.Hour)
				times := r.times()
				for i := 1; i <= 2; i++ {
					pause := times[i] - times[i-1]
					require.GreaterOrEqual(t, pause, c.after, "call %d", i)
					require.Less(t, pause, c.after+3*time.Second, "call %d", i)
				}
				require.Equal(t, uint64(10), f.stats().Delivered)
			})
		})
	}
}

// Who knows better wakes.
func TestOutage_WakeBeforeRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		var up atomic.Bool
		f.start(func(context.Context, outbox.Event) error {
			if up.Load() {
				return nil
			}
			return outbox.HTTPError(503, http.Header{"Retry-After": {"3600"}})
		})
		f.enqueue("e")
		time.Sleep(time.Minute)
		require.Zero(t, f.stats().Delivered)
		up.Store(true)
		f.Wake()
		synctest.Wait()
		require.Equal(t, uint64(1), f.stats().Delivered)
	})
}

// A destination that puts one event off while it takes others is there.
func TestOutage_RetryAfterOfOneEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		other := make(chan struct{})
		f.start(func(_ context.Context, e outbox.Event) error {
			if e.Name != "late" {
				close(other)
				return nil
			}
			<-other
			time.Sleep(time.Millisecond)
			return outbox.HTTPError(503, http.Header{"Retry-After": {"600"}})
		})
		f.enqueue("late")
		f.enqueue("e")
		time.Sleep(time.Second)
		task := f.task()
		require.Zero(t, task.Attempts, "once is for free")
		require.Equal(t, 10*time.Minute+time.Millisecond, task.DueAt.Sub(f.began))
		require.Empty(t, f.log.at(slog.LevelWarn), "no outage")
	})
}
