package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// outcome returns what becomes of an event whose publisher returns err.
func outcome(t *testing.T, err error, opts ...outbox.EventOption) (out outbox.Outcome) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithBackoff(func(int) time.Duration { return time.Hour }))
		require.NoError(t, f.Do(t.Context(), "e", nil, func(context.Context, outbox.Event) error { return err }, opts...))
		require.Len(t, f.store.outcomes, 1)
		out = f.store.outcomes[0]
	})
	return out
}

// timeoutError is what other libraries make of theirs.
type timeoutError struct{}

func (timeoutError) Error() string { return "timed out" }
func (timeoutError) Timeout() bool { return true }

// looksLike is a library's error that compares itself to a deadline's.
type looksLike struct{}

func (looksLike) Error() string        { return "looks like" }
func (looksLike) Is(target error) bool { return target == context.DeadlineExceeded }

func TestClassify(t *testing.T) {
	httpError := func(err error) error { return &url.Error{Op: "Post", URL: "http://x", Err: err} }
	wrap := func(err error) error { return fmt.Errorf("publish: %w", err) }
	_, missing := os.Open("/does/not/exist")
	for _, c := range []struct {
		name string
		err  error
		want outbox.Verdict
	}{
		{"nil", nil, outbox.Done},
		{"any", errRefused, outbox.Retry},
		{"cancelled by the publisher itself", context.Canceled, outbox.Retry},
		{"file missing", missing, outbox.Retry},
		{"errno", syscall.ENOENT, outbox.Retry},
		{"end of file", io.EOF, outbox.Retry},
		{"payload cut", wrap(io.ErrUnexpectedEOF), outbox.Retry},
		{"http: bad scheme", httpError(errors.New("unsupported protocol scheme")), outbox.Retry},
		{"http: cancelled", httpError(context.Canceled), outbox.Retry},
		{"path", &fs.PathError{Op: "read", Path: "p", Err: syscall.EIO}, outbox.Retry},

		{"permanent", outbox.Permanent(errRefused), outbox.Bury},
		{"permanent, wrapped", wrap(outbox.Permanent(errRefused)), outbox.Bury},
		{"permanent network error", outbox.Permanent(syscall.ECONNREFUSED), outbox.Bury},
		{"the outer mark counts", outbox.Permanent(outbox.Unavailable(errRefused)), outbox.Bury},
		{"the outer mark counts, too", outbox.Unavailable(outbox.Permanent(errRefused)), outbox.Release},
		{"retry after", wrap(outbox.RetryAfter(errRefused, time.Minute)), outbox.Retry},
		{"retry after a network error", outbox.RetryAfter(syscall.ECONNREFUSED, time.Minute), outbox.Retry},

		{"unavailable", outbox.Unavailable(errRefused), outbox.Release},
		{"unavailable, wrapped", wrap(outbox.Unavailable(errRefused)), outbox.Release},
		{"unavailable, joined", errors.Join(errRefused, outbox.Unavailable(errRefused)), outbox.Release},
		{"the sentinel", wrap(outbox.ErrUnavailable), outbox.Release},
		{"refused connection", syscall.ECONNREFUSED, outbox.Release},
		{"reset", wrap(syscall.ECONNRESET), outbox.Release},
		{"no route", os.NewSyscallError("connect", syscall.EHOSTUNREACH), outbox.Release},
		{"no network", syscall.ENETUNREACH, outbox.Release},
		{"pipe", syscall.EPIPE, outbox.Release},
		{"dial", &net.OpError{Op: "dial", Err: errRefused}, outbox.Release},
		{"lookup", &net.DNSError{Err: "no such host", IsNotFound: true}, outbox.Release},
		{"closed connection", wrap(&net.OpError{Op: "write", Err: net.ErrClosed}), outbox.Release},
		{"context deadline", wrap(context.DeadlineExceeded), outbox.Release},
		{"i/o deadline", wrap(os.ErrDeadlineExceeded), outbox.Release},
		{"timeout of a library", wrap(timeoutError{}), outbox.Release},
		{"compares itself", looksLike{}, outbox.Release},
		{"http: dial", httpError(&net.OpError{Op: "dial", Err: errRefused}), outbox.Release},
		{"http: hung up", httpError(io.EOF), outbox.Release},
		{"http: cut", wrap(httpError(io.ErrUnexpectedEOF)), outbox.Release},
		{"http: timeout", httpError(context.DeadlineExceeded), outbox.Release},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := outcome(t, c.err)
			require.Equal(t, c.want, out.Verdict)
			if c.want == outbox.Retry || c.want == outbox.Bury {
				require.Equal(t, c.err.Error(), out.Failure.Error)
				require.Equal(t, 1, out.Failure.Attempt)
			} else {
				require.Zero(t, out.Failure)
			}
		})
	}
}

// What the standard library really returns.
func TestClassify_RealErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang-up" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	}))
	defer srv.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := l.Addr().String()
	require.NoError(t, l.Close())

	get := func(url string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	_, dial := net.DialTimeout("tcp", nobody, time.Second)
	for _, c := range []struct {
		name string
		err  error
		want outbox.Verdict
	}{
		{"nobody listens", dial, outbox.Release},
		{"nobody listens, by HTTP", get("http://" + nobody), outbox.Release},
		{"timeout", get(srv.URL), outbox.Release},
		{"hung up", get(srv.URL + "/hang-up"), outbox.Release},
		{"bad URL", get("foo://x"), outbox.Retry},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Error(t, c.err)
			require.Equal(t, c.want, outcome(t, c.err).Verdict, "%v", c.err)
		})
	}
}

func TestClassify_Delays(t *testing.T) {
	require.Equal(t, time.Hour, outcome(t, errRefused).Delay, "by the backoff")
	require.Equal(t, time.Minute, outcome(t, outbox.RetryAfter(errRefused, time.Minute)).Delay)
	require.Equal(t, time.Hour, outcome(t, outbox.RetryAfter(errRefused, 0)).Delay)
	require.Equal(t, time.Hour, outcome(t, outbox.RetryAfter(errRefused, -1)).Delay)
	require.Equal(t, 100*365*24*time.Hour, outcome(t, outbox.RetryAfter(errRefused, math.MaxInt64)).Delay)
	d := outcome(t, outbox.Unavailable(errRefused)).Delay
	require.True(t, 0 < d && d <= time.Second, d)
}

func TestClassify_Exhausted(t *testing.T) {
	for _, err := range []error{errRefused, outbox.RetryAfter(errRefused, time.Second)} {
		out := outcome(t, err, outbox.WithMaxAttempts(1))
		require.Equal(t, outbox.Bury, out.Verdict)
		require.Equal(t, outbox.ReasonExhausted, out.Reason)
	}
	require.Equal(t, outbox.ReasonPermanent, outcome(t, outbox.Permanent(errRefused), outbox.WithMaxAttempts(1)).Reason)
	require.Equal(t, outbox.Release, outcome(t, outbox.Unavailable(errRefused), outbox.WithMaxAttempts(1)).Verdict)
}

func TestMarks(t *testing.T) {
	require.NoError(t, outbox.Permanent(nil))
	require.NoError(t, outbox.Unavailable(nil))
	require.NoError(t, outbox.RetryAfter(nil, time.Second))
	for _, err := range []error{outbox.Permanent(errRefused), outbox.Unavailable(errRefused), outbox.RetryAfter(errRefused, 1)} {
		require.ErrorIs(t, err, errRefused)
		require.EqualError(t, err, "refused")
	}
	require.ErrorIs(t, outbox.Unavailable(errRefused), outbox.ErrUnavailable)
	require.NotErrorIs(t, outbox.Permanent(errRefused), outbox.ErrUnavailable)
	var pe *fs.PathError
	require.ErrorAs(t, outbox.Permanent(&fs.PathError{Err: errRefused}), &pe)
}

func TestExponentialBackoff(t *testing.T) {
	for _, c := range []struct {
		base, max time.Duration
		attempt   int
		most      time.Duration
	}{
		{time.Second, 5 * time.Minute, 1, time.Second},
		{time.Second, 5 * time.Minute, 2, 2 * time.Second},
		{time.Second, 5 * time.Minute, 9, 256 * time.Second},
		{time.Second, 5 * time.Minute, 10, 5 * time.Minute},
		{time.Second, 5 * time.Minute, math.MaxInt, 5 * time.Minute},
		{time.Second, 5 * time.Minute, 0, time.Second},
		{time.Second, 5 * time.Minute, math.MinInt, time.Second},
		{time.Second, math.MaxInt64, 1000, math.MaxInt64},
		{math.MaxInt64, math.MaxInt64, 5, math.MaxInt64},
		{0, 0, 3, time.Second},
		{time.Minute, time.Second, 3, time.Minute},
		{1, time.Hour, 1, 1},
	} {
		b := outbox.ExponentialBackoff(c.base, c.max)
		var highest time.Duration
		for range 300 {
			d := b(c.attempt)
			require.True(t, 0 < d && d <= c.most, "%+v: %v", c, d)
			highest = max(highest, d)
		}
		require.GreaterOrEqual(t, highest, c.most/2, "%+v: full jitter reaches to the top", c)
	}
}

// The default backoff, and a negative one.
func TestWithBackoff(t *testing.T) {
	for _, c := range []struct {
		name string
		b    outbox.Backoff
		most time.Duration
	}{
		{"default", nil, time.Second},
		{"negative", func(int) time.Duration { return -time.Hour }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithBackoff(c.b))
				r := f.receiver(answers(errRefused, nil))
				f.start(r.publish)
				f.enqueue("e")
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Len(t, r.calls(), 2)
				require.LessOrEqual(t, r.times()[1], c.most)
			})
		})
	}
}

func TestUntyped(t *testing.T) {
	type seen struct {
		name    string
		payload any
	}
	for _, c := range []struct {
		name    string
		payload any
		opt     outbox.EventOption
		want    any
	}{
		{"struct", struct{ A int }{7}, nil, map[string]any{"A": 7.0}},
		{"text", "x", nil, "x"},
		{"nil", nil, nil, nil},
		{"bytes", []byte("raw"), nil, []byte("raw")},
		{"JSON with a charset", []byte(`[1]`), contentType("application/json; charset=utf-8"), []any{1.0}},
		{"built on JSON", []byte(`[1]`), contentType("application/cloudevents+json"), []any{1.0}},
		{"something else", []byte(`[1]`), contentType("text/plain"), []byte(`[1]`)},
		{"nonsense", []byte(`[1]`), contentType(";;"), []byte(`[1]`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				var got []seen
				p := outbox.Untyped(func(_ context.Context, name string, payload any) error {
					got = append(got, seen{name, payload})
					if len(got) == 1 {
						return errRefused
					}
					return nil
				})
				require.NoError(t, f.Do(t.Context(), "e", c.payload, p, c.opt))
				stop := f.start(p)
				time.Sleep(time.Minute)
				stop()
				require.Equal(t, []seen{{"e", c.want}, {"e", c.want}}, got, "the same on the first try and on a retry")
			})
		})
	}
	t.Run("what does not decode is dead", func(t *testing.T) {
		f := setup(t)
		never := outbox.Untyped(func(context.Context, string, any) error { t.Error("called"); return nil })
		require.NoError(t, f.Do(t.Context(), "e", []byte("{"), never, contentType("application/json")))
		require.Equal(t, outbox.ReasonPermanent, f.task().Reason)
	})
}

func contentType(s string) outbox.EventOption { return func(t *outbox.Task) { t.ContentType = s } }

func TestSchedule(t *testing.T) {
	waits := []time.Duration{time.Second, time.Minute, 0}
	s := outbox.Schedule(waits...)
	waits[0] = time.Hour // the caller may do with it as he likes
	for attempt, want := range map[int]time.Duration{-1: time.Second, 0: time.Second, 1: time.Second, 2: time.Minute, 3: 0, 4: 0, math.MaxInt: 0} {
		require.Equal(t, want, s(attempt), "attempt %d", attempt)
	}
	for attempt := range 20 {
		wait := outbox.Schedule()(attempt)
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, 5*time.Minute)
	}
}
