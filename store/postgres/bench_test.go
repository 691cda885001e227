package postgres_test

import (
	"fmt"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// benchStore is a store on a server that waits for its disk.
func benchStore(b *testing.B) outbox.Store {
	b.Helper()
	dsn(b) // a server can be had
	srv, err := newServer()
	require.NoError(b, err)
	b.Cleanup(srv.remove)
	shared.dsn, srv.was = srv.dsn(), shared.dsn
	b.Cleanup(func() { shared.dsn = srv.was })
	s, _, _ := newStore(b, "pgx")
	return s
}

func BenchmarkCreate(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := benchStore(b)
			for b.Loop() {
				tasks := make([]outbox.Task, size)
				for i := range tasks {
					tasks[i] = event("a")
				}
				require.NoError(b, s.Create(b.Context(), tasks))
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkDrain claims and settles 100 at a time.
func BenchmarkDrain(b *testing.B) {
	for _, keys := range []int{0, 1000} {
		b.Run(fmt.Sprintf("keys %d", keys), func(b *testing.B) {
			s := benchStore(b)
			n := 0
			for b.Loop() {
				got := claim(b, s, 100, aWhile)
				if len(got) == 0 {
					b.StopTimer()
					for range 20 {
						tasks := make([]outbox.Task, 1000)
						for i := range tasks {
							if tasks[i] = event("a"); keys > 0 {
								tasks[i].Key = fmt.Sprint(i % keys)
							}
						}
						require.NoError(b, s.Create(b.Context(), tasks))
					}
					b.StartTimer()
				}
				require.NoError(b, settle(b, s, outbox.Done, got...))
				n += len(got)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
