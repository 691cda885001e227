package peer

import (
	"context"
	"errors"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/joncrlsn/dque"
)

// Dque is a queue in files.
var Dque = subject.Subject{
	Name: "dque",
	About: "github.com/joncrlsn/dque" + version("github.com/joncrlsn/dque") + ", safe mode (each change is synced), 1,000 items a segment; a batch is a call for each event (turbo mode does not sync the segments that it fills); " +
		"one reader, Peek, publish, Dequeue",
	Durable:      true,
	Most:         slow,
	Open:         func(dir string) (subject.Queue, error) { return openDque(dir, false) },
	OpenUnsynced: func(dir string) (subject.Queue, error) { return openDque(dir, true) },
}

func openDque(dir string, turbo bool) (subject.Queue, error) {
	q, err := dque.NewOrOpen("queue", dir, 1000, func() any { return new(dqueItem) })
	if err == nil && turbo {
		err = q.TurboOn()
	}
	if err != nil {
		return nil, err
	}
	return &dqueQueue{q: q, wake: make(chan struct{}, 1)}, nil
}

// dqueItem is what gob encodes.
type dqueItem struct{ Payload []byte }

type dqueQueue struct {
	q    *dque.DQue
	wake chan struct{}
}

func (q *dqueQueue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *dqueQueue) Enqueue(_ context.Context, payload []byte) error {
	defer q.notify()
	return q.q.Enqueue(&dqueItem{append([]byte(nil), payload...)}) // it keeps the item in memory
}

func (q *dqueQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	for _, p := range payloads {
		if err := q.Enqueue(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (q *dqueQueue) Consume(ctx context.Context, publish func([]byte)) error {
	return consume(ctx, q.wake, publish, q.Drain)
}

func (q *dqueQueue) Drain(ctx context.Context, publish func([]byte)) error {
	for ctx.Err() == nil {
		v, err := q.q.Peek()
		switch {
		case errors.Is(err, dque.ErrEmpty):
			return nil
		case err != nil:
			return err
		}
		publish(v.(*dqueItem).Payload)
		if _, err := q.q.Dequeue(); err != nil {
			return err
		}
	}
	return nil
}

// List takes what it lists out of the queue: there is no other way to see it. It is
// called in checks alone, after Counts.
func (q *dqueQueue) List(ctx context.Context, f func([]byte)) error {
	if err := q.q.TurboOn(); err != nil {
		return err
	}
	return q.Drain(ctx, f)
}

func (q *dqueQueue) Counts(context.Context) (subject.Counts, error) {
	return subject.Counts{Waiting: uint64(q.q.Size())}, nil
}

func (q *dqueQueue) Close() error { return q.q.Close() }
