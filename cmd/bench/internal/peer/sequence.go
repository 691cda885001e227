package peer

import (
	"context"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// sequence is what a log or a map is able to do, of which queue makes the least that
// can be called a queue: one reader, that removes what it has read in one go.
type sequence interface {
	// Append makes payloads durable, all or none.
	Append(payloads [][]byte) error
	// Read returns events from a number on, in order; fewer than max if there are no
	// more now.
	Read(from uint64, max int) ([]item, error)
	// Remove removes what Read has returned; durable on return.
	Remove(items []item) error
	Count() (uint64, error)
	Close() error
}

type item struct {
	seq     uint64
	payload []byte
}

// readBatch is how many events are removed in one go.
const readBatch = 1000

// queue is a queue on a sequence.
type queue struct {
	sequence
	wake chan struct{}
}

func newQueue(s sequence) *queue { return &queue{s, make(chan struct{}, 1)} }

func (q *queue) Enqueue(_ context.Context, payload []byte) error {
	return q.append([][]byte{payload})
}

func (q *queue) EnqueueBatch(_ context.Context, payloads [][]byte) error {
	return q.append(payloads)
}

func (q *queue) append(payloads [][]byte) error {
	if err := q.Append(payloads); err != nil {
		return err
	}
	q.notify()
	return nil
}

func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) Consume(ctx context.Context, publish func([]byte)) error {
	return consume(ctx, q.wake, publish, q.Drain)
}

// consume drains again and again, as it is woken, until ctx ends.
func consume(ctx context.Context, wake <-chan struct{}, publish func([]byte), drain func(context.Context, func([]byte)) error) error {
	for {
		if err := drain(ctx, publish); err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// Drain looks from the beginning again when it has come to the end: numbers become
// visible out of order where transactions run side by side.
func (q *queue) Drain(ctx context.Context, publish func([]byte)) error {
	for from := uint64(0); ctx.Err() == nil; {
		items, err := q.Read(from, readBatch)
		switch {
		case err != nil:
			return err
		case len(items) > 0:
			for _, it := range items {
				publish(it.payload)
			}
			if err := q.Remove(items); err != nil {
				return err
			}
			from = items[len(items)-1].seq + 1
		case from == 0:
			return nil
		default:
			from = 0
		}
	}
	return nil
}

func (q *queue) List(_ context.Context, f func([]byte)) error {
	for from := uint64(0); ; {
		items, err := q.Read(from, readBatch)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, it := range items {
			f(it.payload)
		}
		from = items[len(items)-1].seq + 1
	}
}

func (q *queue) Counts(context.Context) (subject.Counts, error) {
	n, err := q.Count()
	return subject.Counts{Waiting: n}, err
}
