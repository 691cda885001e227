package load

import (
	"context"
	"sync"
	"time"
)

// Open is what an open loop was like.
type Open struct {
	Events uint64
	Took   time.Duration // until the last call had returned
	Calls  *Histogram    // from the moment an event was due to be sent until it was acknowledged
	Late   *Histogram    // from that moment until a producer sent it: the loop's own fault, or no producer was free
}

// Every does something at fixed moments, interval after interval, for so long. The
// moments are fixed beforehand: one that comes late does not put off the next. It ends
// early with ctx, or with the first error.
func Every(ctx context.Context, interval, d time.Duration, f func(due time.Time) error) error {
	ended := make(chan error, 1)
	go func() { // ends with d, ctx or an error; its thread ends with it
		ended <- every(ctx, interval, d, f)
	}()
	return <-ended
}

func every(ctx context.Context, interval, d time.Duration, f func(due time.Time) error) error {
	p, start := newPacer(), time.Now()
	for at := time.Duration(0); at < d; at += interval {
		due := start.Add(at)
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			p.sleep(min(wait, 50*time.Millisecond)) // ctx may end meanwhile
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		if err := f(due); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// At is an open loop: events are due to be sent at a fixed rate, whether the calls for
// those before have returned or not. Latencies count from the moment an event was due,
// so the time it waited because the queue was slow with others is in them: there is no
// coordinated omission. An event's payload says when it was due.
func (p *Producers) At(ctx context.Context, rate float64, d time.Duration, send Send) (Open, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := Open{Calls: NewHistogram(), Late: NewHistogram()}
	interval := time.Duration(float64(time.Second) / rate)
	due := make(chan time.Time, 1<<12) // when it is full the loop waits, but no event's moment moves
	before, start := p.Total(), time.Now()
	var all sync.WaitGroup
	for i := range p.next {
		b := p.buffers()[:1]
		all.Go(func() {
			for at := range due {
				if ctx.Err() != nil {
					return
				}
				p.source.Fill(b[0], i, p.next[i], at)
				o.Late.Add(time.Since(at))
				if err := send(ctx, b); err != nil {
					cancel(err)
					return
				}
				o.Calls.Add(time.Since(at))
				p.next[i]++
			}
		})
	}
	err := Every(ctx, interval, d, func(at time.Time) error {
		select {
		case due <- at:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(due)
	all.Wait()
	o.Took, o.Events = time.Since(start), p.Total()-before
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return o, err
}
