package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestLatency_BucketsAreNarrowAndInOrder(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < time.Minute; d += 1 + d/200 {
		b := bucketOf(d)
		if b < last || b > last+1 {
			t.Fatalf("%d ns: bucket %d after %d", d, b, last)
		}
		last = b
		if u := upper(b); u < d || float64(u-d) > float64(d)/64 {
			t.Fatalf("%d ns: upper bound %d", d, u)
		}
	}
	if b := bucketOf(time.Hour); upper(b) < time.Minute {
		t.Errorf("an hour is in bucket %d", b)
	}
}

func TestQuantile(t *testing.T) {
	var a, b Latency
	for i := range 50 {
		a.Add(time.Duration(2*i + 1))
		b.Add(time.Duration(2*i + 2))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Quantile(q, &a, &b); got != want {
			t.Errorf("quantile %v of 1..100 ns is %d", q, got)
		}
	}
	if got := Quantile(0.5, new(Latency)); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

func TestProducers_SendWhatTheySayOnce(t *testing.T) {
	source := NewSource(1, 64)
	p, tally := NewProducers(source, 3, 10), NewTally(source, 3)
	send := func(_ context.Context, payloads [][]byte) error {
		for _, b := range payloads {
			tally.See(b)
		}
		return nil
	}
	if _, err := p.For(t.Context(), 5*time.Millisecond, send); err != nil {
		t.Fatal(err)
	}
	run, err := p.Exactly(t.Context(), 75, send)
	if err != nil || run.Events != 75 {
		t.Fatalf("%d events, %v", run.Events, err)
	}
	if err := tally.Check(p.Acked()); err != nil || tally.Total() != p.Total() {
		t.Errorf("%d of %d: %v", tally.Total(), p.Total(), err)
	}
	p.next[1]++
	if tally.Check(p.Acked()) == nil {
		t.Error("one is missing, and nobody says so")
	}
	p.next[1] -= 2
	if tally.Check(p.Acked()) == nil {
		t.Error("one is too many, and nobody says so")
	}
}

func TestProducers_EndWithTheFirstError(t *testing.T) {
	full := errors.New("full")
	p := NewProducers(NewSource(1, 64), 4, 1)
	var n atomic.Int64
	_, err := p.For(t.Context(), time.Hour, func(context.Context, [][]byte) error {
		if n.Add(1) > 100 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || p.Total() != 100 {
		t.Errorf("%d acknowledged, %v", p.Total(), err)
	}
}

func TestSource_DoesNotReadAnothers(t *testing.T) {
	b := make([]byte, 64)
	NewSource(1, 64).Fill(b, 2, 3, time.Now())
	if m, err := NewSource(1, 64).Read(b); err != nil || m.Producer != 2 || m.Seq != 3 {
		t.Errorf("%+v %v", m, err)
	}
	if _, err := NewSource(2, 64).Read(b); err == nil {
		t.Error("a payload of another seed is taken")
	}
	if _, err := NewSource(1, 64).Read(b[:63]); err == nil {
		t.Error("a short payload is taken")
	}
}

// An open loop does not leave out what came due while the queue was slow: one call
// that takes long is in the latency of all events that came due meanwhile.
func TestProducers_AnOpenLoopOmitsNothing(t *testing.T) {
	const rate, stall = 1000, 50 * time.Millisecond
	p := NewProducers(NewSource(1, 64), 1, 1)
	var calls atomic.Int64
	run, err := p.At(t.Context(), rate, 100*time.Millisecond, func(context.Context, [][]byte) error {
		if calls.Add(1) == 1 {
			<-time.After(stall)
		}
		return nil
	})
	if err != nil || run.Events != 100 || run.Calls.Count() != 100 {
		t.Fatalf("%d events, %d latencies, %v", run.Events, run.Calls.Count(), err)
	}
	// 50 came due in the stall, one each millisecond: a quarter of all waited for 25 ms.
	if got := run.Calls.Quantile(0.75); got < 20*time.Millisecond {
		t.Errorf("of 100 events, 50 of them due during a stall of %s, 75 are said to have taken %s at most", stall, got)
	}
	if run.Calls.Max() < stall || run.Late.Max() < stall/2 {
		t.Errorf("longest %s, latest %s", run.Calls.Max(), run.Late.Max())
	}
}

func TestProducers_AnOpenLoopEndsWithTheFirstError(t *testing.T) {
	full := errors.New("full")
	p := NewProducers(NewSource(1, 64), 2, 1)
	_, err := p.At(t.Context(), 1000, time.Hour, func(context.Context, [][]byte) error { return full })
	if !errors.Is(err, full) || p.Total() != 0 {
		t.Errorf("%d acknowledged, %v", p.Total(), err)
	}
}
