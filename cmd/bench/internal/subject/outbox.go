package subject

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// eventName is that of every event here.
const eventName = "bench.event"

// logger shows what the library warns of, and nothing below that; errorsOnly does not
// even show that, for workloads in which a destination is down on purpose.
var (
	logger     = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	errorsOnly = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
)

// outboxQueue is an outbox on a store, with default options: what a user of goutbox
// calls.
type outboxQueue struct {
	store outbox.Store
	*outbox.Outbox
	trying atomic.Pointer[outbox.Outbox] // that of the last Try
}

func newOutboxQueue(store outbox.Store) *outboxQueue {
	return &outboxQueue{store: store, Outbox: outbox.New(store, outbox.WithLogger(logger))}
}

// outboxCan is what every store of goutbox is able to do.
var outboxCan = []Ability{Inline, Refusals, Outages, Keys}

func (q *outboxQueue) Enqueue(ctx context.Context, payload []byte) error {
	_, err := q.Outbox.Enqueue(ctx, eventName, payload)
	return err
}

func (q *outboxQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	events := make([]outbox.Event, len(payloads))
	for i, p := range payloads {
		events[i] = outbox.Event{Name: eventName, Payload: p}
	}
	_, err := q.Outbox.EnqueueBatch(ctx, events)
	return err
}

func (q *outboxQueue) Consume(ctx context.Context, publish func([]byte)) error {
	return q.Start(ctx, publisher(publish))
}

func (q *outboxQueue) Drain(ctx context.Context, publish func([]byte)) error {
	done, err := q.Outbox.Drain(ctx, publisher(publish))
	if err == nil && done.Waiting > 0 {
		err = fmt.Errorf("drain has left %d events", done.Waiting)
	}
	return err
}

func (q *outboxQueue) Do(ctx context.Context, payload []byte, publish func([]byte)) error {
	return q.Outbox.Do(ctx, eventName, payload, publisher(publish))
}

func (q *outboxQueue) EnqueueKey(ctx context.Context, key string, payload []byte) error {
	_, err := q.Outbox.Enqueue(ctx, eventName, payload, outbox.WithKey(key))
	return err
}

// retryAfter is how long a refused event waits here: by default it would be seconds.
const retryAfter = 5 * time.Millisecond

// Try has an outbox of its own on the store, with another backoff, and without the ramp
// that an outage ends with: by default 100,000 events would take ten seconds, whatever the
// store does.
func (q *outboxQueue) Try(ctx context.Context, publish func([]byte) error) error {
	ob := outbox.New(q.store, outbox.WithLogger(errorsOnly), outbox.NoRamp(), outbox.WithBackoff(func(int) time.Duration { return retryAfter }))
	q.trying.Store(ob)
	return ob.Start(ctx, func(_ context.Context, e outbox.Event) error {
		err := publish(e.Payload)
		if errors.Is(err, ErrUnavailable) {
			return outbox.Unavailable(err)
		}
		return err
	})
}

func (q *outboxQueue) Wake() {
	if ob := q.trying.Load(); ob != nil {
		ob.Wake()
	}
}

func publisher(publish func([]byte)) outbox.Publisher {
	return func(_ context.Context, e outbox.Event) error {
		publish(e.Payload)
		return nil
	}
}

func (q *outboxQueue) List(ctx context.Context, f func([]byte)) error {
	for task, err := range q.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Waiting, outbox.InFlight}}) {
		if err != nil {
			return err
		}
		f(task.Payload)
	}
	return nil
}

func (q *outboxQueue) Counts(ctx context.Context) (Counts, error) {
	st, err := q.Stats(ctx)
	return Counts{
		Waiting: st.Pending + st.InFlight, Lost: st.Dead + st.Dropped,
		Syncs: st.Syncs, Records: st.SyncedRecords, Bytes: st.BytesWritten, Checkpoints: st.Checkpoints,
	}, err
}

func (q *outboxQueue) Close() error { return q.store.Close() }
