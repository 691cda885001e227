package load

import (
	"context"
	"sync"
	"time"
)

// Producers are goroutines in a closed loop: each sends, waits until what it sent
// is acknowledged, and sends again.
type Producers struct {
	source *Source
	batch  int // events of one call
	next   []uint64
}

// NewProducers returns so many producers, that send batches of so many events.
func NewProducers(source *Source, producers, batch int) *Producers {
	return &Producers{source: source, batch: batch, next: make([]uint64, producers)}
}

// Acked is how many events each producer has had acknowledged: its first so many.
func (p *Producers) Acked() []uint64 { return p.next }

// Total is the sum of Acked.
func (p *Producers) Total() (n uint64) {
	for _, acked := range p.next {
		n += acked
	}
	return n
}

// Send hands a call's payloads over. Their memory is the producer's again when it
// returns; nil means that all are acknowledged.
type Send func(ctx context.Context, payloads [][]byte) error

// Run is what a run of the producers was like.
type Run struct {
	Events    uint64
	Took      time.Duration // until the last call had returned
	Latencies []*Latency    // of the calls, one of each producer
}

// Quantile is that of the latencies of the calls.
func (r Run) Quantile(q float64) time.Duration { return Quantile(q, r.Latencies...) }

// For sends for so long, from all producers at a time. It ends early with the
// first error of a call, or that of ctx.
func (p *Producers) For(ctx context.Context, d time.Duration, send Send) (Run, error) {
	return p.run(ctx, send, func(start, now time.Time, _ uint64) int {
		if now.Sub(start) >= d {
			return 0
		}
		return p.batch
	})
}

// Exactly sends so many events, the same number from each producer; what is left
// of the division is not sent.
func (p *Producers) Exactly(ctx context.Context, events uint64, send Send) (Run, error) {
	share := events / uint64(len(p.next))
	return p.run(ctx, send, func(_, _ time.Time, sent uint64) int {
		return int(min(uint64(p.batch), share-sent))
	})
}

// run is the loop. more says how many events the next call of a producer brings;
// 0 ends it.
func (p *Producers) run(ctx context.Context, send Send, more func(start, now time.Time, sent uint64) int) (Run, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := Run{Latencies: make([]*Latency, len(p.next))}
	for i := range r.Latencies {
		r.Latencies[i] = new(Latency)
	}
	before := p.Total()
	start := time.Now()
	var all sync.WaitGroup
	for i := range p.next {
		payloads := p.buffers()
		all.Go(func() {
			first := p.next[i]
			seq := first // p.next would share its cache line with the neighbours'
			for now := start; ctx.Err() == nil; {
				n := more(start, now, seq-first)
				if n <= 0 {
					break
				}
				for j, b := range payloads[:n] {
					p.source.Fill(b, i, seq+uint64(j), now)
				}
				if err := send(ctx, payloads[:n]); err != nil {
					cancel(err)
					break
				}
				seq += uint64(n)
				then := time.Now()
				r.Latencies[i].Add(then.Sub(now))
				now = then
			}
			p.next[i] = seq
		})
	}
	all.Wait()
	r.Took = time.Since(start)
	r.Events = p.Total() - before
	return r, context.Cause(ctx)
}

func (p *Producers) buffers() [][]byte {
	all := make([][]byte, p.batch)
	for i := range all {
		all[i] = make([]byte, p.source.size)
	}
	return all
}

// Batch changes how many events a call has.
func (p *Producers) Batch(n int) { p.batch = n }
