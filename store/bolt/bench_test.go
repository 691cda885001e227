package bolt_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

// BenchmarkCreate is what accepting costs with the sync in it. The figures with the
// disk's own ceiling beside them are those of cmd/bench.
func BenchmarkCreate(b *testing.B) {
	for _, producers := range []int{1, 64} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			s, err := bolt.Open(b.TempDir(), bolt.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			payload := make([]byte, 256)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			b.SetParallelism(producers)
			var n atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				tasks := make([]outbox.Task, 1)
				for pb.Next() {
					tasks[0] = outbox.Task{Event: outbox.Event{Name: "order.created", Payload: payload}, MaxAttempts: 3}
					if err := s.Create(context.Background(), tasks); err != nil {
						b.Error(err)
						return
					}
					n.Add(1)
				}
			})
			st, err := s.Stats(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.SyncedRecords)/float64(max(st.Syncs, 1)), "records/sync")
		})
	}
}

// BenchmarkDeliver is claiming and settling what lies in the database, of one name and
// of many.
func BenchmarkDeliver(b *testing.B) {
	for _, names := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d", names), func(b *testing.B) { benchmarkDeliver(b, names) })
	}
}

func benchmarkDeliver(b *testing.B, names int) {
	s, err := bolt.Open(b.TempDir(), bolt.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for left := b.N; left > 0; left -= 1000 {
		list := tasks(0, min(left, 1000))
		for i := range list {
			list[i].Name = list[i%names].Name
		}
		if err := s.Create(context.Background(), list); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		c, err := s.Claim(context.Background(), outbox.ClaimRequest{Max: 64, Lease: time.Minute})
		if err != nil {
			b.Fatal(err)
		}
		outcomes := make([]outbox.Outcome, len(c.Tasks))
		for i, t := range c.Tasks {
			outcomes[i] = outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Done}
		}
		if err := s.Settle(context.Background(), outcomes); err != nil {
			b.Fatal(err)
		}
		n += len(c.Tasks)
	}
}
