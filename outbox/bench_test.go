package outbox_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
)

// endless is a store that has more, up to total, and forgets what it is told: what
// is measured with it is the outbox alone.
type endless struct {
	total                     int64
	claimed, settled, settles atomic.Int64
	all                       chan struct{} // closed when all of them are settled
	payload                   []byte
}

func newEndless(n int) *endless {
	return &endless{total: int64(n), all: make(chan struct{}), payload: make([]byte, 256)}
}

func (s *endless) Create(_ context.Context, tasks []outbox.Task) error {
	for i := range tasks {
		binary.BigEndian.PutUint64(tasks[i].ID[8:], uint64(s.claimed.Add(1)))
	}
	return nil
}

func (s *endless) Claim(_ context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	n := min(int64(req.Max), s.total-s.claimed.Load())
	tasks := make([]outbox.Task, n)
	for i := range tasks {
		t := &tasks[i]
		t.Name, t.Payload, t.MaxAttempts, t.Attempt = "bench", s.payload, 3, 1
		t.Token = uint64(s.claimed.Add(1))
		binary.BigEndian.PutUint64(t.ID[8:], t.Token)
	}
	if s.claimed.Load() == s.total {
		return outbox.Claimed{Tasks: tasks, NextIn: outbox.Forever}, nil
	}
	return outbox.Claimed{Tasks: tasks}, nil
}

func (s *endless) Settle(_ context.Context, outs []outbox.Outcome) error {
	s.settles.Add(1)
	if s.settled.Add(int64(len(outs))) == s.total {
		close(s.all)
	}
	return nil
}

func (s *endless) Stats(context.Context) (outbox.Stats, error) { return outbox.Stats{}, nil }
func (s *endless) Tasks(context.Context, outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(func(outbox.Task, error) bool) {}
}
func (s *endless) Requeue(context.Context, ...outbox.ID) (int, error) { return 0, nil }
func (s *endless) Delete(context.Context, ...outbox.ID) (int, error)  { return 0, nil }
func (s *endless) Close() error                                       { return nil }

// BenchmarkStart measures what the dispatcher adds to an attempt. One operation is
// one event, claimed, published and settled.
func BenchmarkStart(b *testing.B) {
	nothing := func(context.Context, outbox.Event) error { return nil }
	watching := func(ctx context.Context, _ outbox.Event) error {
		_ = ctx.Done() // what makes a real publisher's context start its timer
		return nil
	}
	for _, c := range []struct {
		name        string
		concurrency int
		p           outbox.Publisher
	}{
		{"publisher=nothing/concurrency=1", 1, nothing},
		{"publisher=nothing/concurrency=16", 16, nothing},
		{"publisher=nothing/concurrency=256", 256, nothing},
		{"publisher=watching/concurrency=16", 16, watching},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newEndless(b.N)
			ob := outbox.New(s, outbox.WithConcurrency(c.concurrency), quiet())
			run(b, s, func(ctx context.Context) error { return ob.Start(ctx, c.p) })
		})
	}
}

// BenchmarkStart_Observer measures what hooks add that do nothing; without any, see
// BenchmarkStart.
func BenchmarkStart_Observer(b *testing.B) {
	nothing := func(outbox.Attempt) {}
	for name, o := range map[string]outbox.Observer{
		"hooks=0": {},
		"hooks=1": {Delivered: nothing},
		"hooks=2": {Attempt: nothing, Delivered: nothing},
	} {
		b.Run(name, func(b *testing.B) {
			s := newEndless(b.N)
			ob := outbox.New(s, outbox.WithObserver(o), quiet())
			run(b, s, func(ctx context.Context) error {
				return ob.Start(ctx, func(context.Context, outbox.Event) error { return nil })
			})
		})
	}
}

func BenchmarkStartBatch(b *testing.B) {
	s := newEndless(b.N)
	ob := outbox.New(s, quiet())
	run(b, s, func(ctx context.Context) error {
		return ob.StartBatch(ctx, func(context.Context, []outbox.Event) []error { return nil })
	})
}

// run measures until all events of the store are settled.
func run(b *testing.B, s *endless, start func(ctx context.Context) error) {
	b.Helper()
	b.ReportAllocs()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- start(ctx) }()
	<-s.all
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/float64(s.settles.Load()), "outcomes/settle")
}

// BenchmarkEnqueue measures what the outbox adds to Store.Create.
func BenchmarkEnqueue(b *testing.B) {
	type order struct {
		ID     int    `json:"id"`
		Amount string `json:"amount"`
	}
	payload := make([]byte, 256)
	for _, c := range []struct {
		name    string
		payload any
	}{
		{"payload=bytes", payload},
		{"payload=struct", order{7, "12.50"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			ob := outbox.New(newEndless(0), quiet())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ob.Enqueue(b.Context(), "order.created", c.payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run(fmt.Sprintf("batch=%d", 100), func(b *testing.B) {
		events := make([]outbox.Event, 100)
		for i := range events {
			events[i] = outbox.Event{Name: "order.created", Payload: payload}
		}
		ob := outbox.New(newEndless(0), quiet())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ob.EnqueueBatch(b.Context(), events); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// quiet is for tests that do not look at the log.
func quiet() outbox.Option { return outbox.WithLogger(quietLogger) }

var quietLogger = slog.New(slog.DiscardHandler)
