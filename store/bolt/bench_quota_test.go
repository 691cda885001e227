package bolt_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

// BenchmarkQuota_DropOldest is accepting where each event drops the oldest of many.
func BenchmarkQuota_DropOldest(b *testing.B) {
	const waiting = 200_000
	s, err := bolt.Open(b.TempDir(), bolt.WithLogger(slog.New(slog.DiscardHandler)), bolt.WithMaxTasks(waiting), bolt.WithOverflow(bolt.DropOldest))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; i < waiting; i += 1000 {
		if err := s.Create(context.Background(), tasks(i, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		list := make([]outbox.Task, 1)
		for pb.Next() {
			list[0] = outbox.Task{Event: outbox.Event{Name: "order.created", Payload: make([]byte, 256)}, MaxAttempts: 3}
			if err := s.Create(context.Background(), list); err != nil {
				b.Error(err)
				return
			}
		}
	})
	st, err := s.Stats(context.Background())
	if err != nil || st.Pending != waiting {
		b.Fatal(st, err)
	}
}
