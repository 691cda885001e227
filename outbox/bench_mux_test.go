package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/mem"
)

// countedMem and countedBolt count claims, and are otherwise what they are.
type (
	countedMem struct {
		*mem.Store
		claims atomic.Int64
	}
	countedBolt struct {
		*bolt.Store
		claims atomic.Int64
	}
)

func (s *countedMem) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	s.claims.Add(1)
	return s.Store.Claim(ctx, req)
}

func (s *countedBolt) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	s.claims.Add(1)
	return s.Store.Claim(ctx, req)
}

// BenchmarkMux measures what destinations cost that an event is not for. One operation is
// one event, accepted and delivered before the next: what waits does not hide the claims.
func BenchmarkMux(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) (outbox.Store, *atomic.Int64)
	}{
		{"mem", func(*testing.B) (outbox.Store, *atomic.Int64) {
			s := &countedMem{Store: mem.New()}
			return s, &s.claims
		}},
		{"bolt", func(b *testing.B) (outbox.Store, *atomic.Int64) {
			s, err := bolt.Open(b.TempDir(), bolt.WithSync(bolt.Never))
			if err != nil {
				b.Fatal(err)
			}
			c := &countedBolt{Store: s}
			return c, &c.claims
		}},
	}
	for _, s := range stores {
		for _, destinations := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("store=%s/destinations=%d", s.name, destinations), func(b *testing.B) {
				store, claims := s.open(b)
				defer store.Close()
				benchMux(b, store, claims, destinations)
			})
		}
	}
}

func benchMux(b *testing.B, store outbox.Store, claims *atomic.Int64, destinations int) {
	ob, m := outbox.New(store, quiet()), outbox.NewMux()
	delivered := make(chan struct{}, 1)
	for i := range destinations {
		err := m.Handle(fmt.Sprintf("to.%d.*", i), func(context.Context, outbox.Event) error {
			delivered <- struct{}{}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- ob.StartMux(ctx, m) }()
	payload := make([]byte, 256)
	send := func() {
		if _, err := ob.Enqueue(b.Context(), "to.0.event", payload); err != nil {
			b.Fatal(err)
		}
		<-delivered
	}
	send() // all have started, or will soon
	before := claims.Load()
	for b.Loop() {
		send()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(claims.Load()-before)/float64(b.N), "claims/event")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
