package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

func ExampleNew() {
	store := mem.New() // bolt.Open(dir) in a program that must not lose events
	defer store.Close()
	ob := outbox.New(store, outbox.WithConcurrency(4))

	ctx, cancel := context.WithCancel(context.Background())
	if _, err := ob.Enqueue(ctx, "order.created", map[string]any{"id": 7}); err != nil {
		fmt.Println(err)
	}
	err := ob.Start(ctx, func(_ context.Context, e outbox.Event) error {
		fmt.Println(e.Name, string(e.Payload))
		cancel() // one is enough for an example
		return nil
	})
	fmt.Println("stopped:", err)
	// Output:
	// order.created {"id":7}
	// stopped: <nil>
}

func ExampleOutbox_Do() {
	atOnce := func(int) time.Duration { return 0 } // to keep the example short
	ob := outbox.New(mem.New(), outbox.WithBackoff(atOnce))
	ctx := context.Background()
	publish := func(_ context.Context, e outbox.Event) error {
		fmt.Println("attempt", e.Attempt)
		if e.Attempt == 1 {
			return errors.New("not now")
		}
		return nil
	}
	// The event is safe, so a failure of the publisher is no error of Do.
	err := ob.Do(ctx, "order.created", map[string]any{"id": 7}, publish)
	fmt.Println("safe:", err == nil)

	// Start, or Drain, retries it.
	drained, err := ob.Drain(ctx, publish)
	fmt.Println("delivered:", drained.Delivered, err)
	// Output:
	// attempt 1
	// safe: true
	// attempt 2
	// delivered: 1 <nil>
}

func ExampleOutbox_Drain() {
	ob := outbox.New(mem.New())
	ctx := context.Background()
	for i := range 3 {
		if _, err := ob.Enqueue(ctx, "reading", i); err != nil {
			fmt.Println(err)
		}
	}
	publish := func(context.Context, outbox.Event) error {
		return outbox.Unavailable(errors.New("no link"))
	}
	drained, err := ob.Drain(ctx, publish)
	if errors.Is(err, outbox.ErrUnavailable) {
		fmt.Println(drained.Waiting, "events wait for the next run")
	}
	// Output:
	// 3 events wait for the next run
}

func ExamplePermanent() {
	ob := outbox.New(mem.New(), quiet())
	ctx := context.Background()
	publish := func(_ context.Context, e outbox.Event) error {
		return outbox.Permanent(errors.New("422: unknown customer"))
	}
	if err := ob.Do(ctx, "order.created", map[string]any{"customer": 13}, publish); err != nil {
		fmt.Println(err)
	}
	for task, err := range ob.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(task.Name, "is dead:", task.Reason, "-", task.Failures[0].Error)
	}
	// Output:
	// order.created is dead: permanent - 422: unknown customer
}

func ExampleMux() {
	ob := outbox.New(mem.New(), quiet())
	ctx := context.Background()
	mux := outbox.NewMux()
	err := errors.Join(
		mux.Handle("reading.*", func(context.Context, outbox.Event) error {
			return outbox.HTTPError(503, nil) // the cloud is away
		}),
		outbox.Handle(mux, "alarm.raised", func(_ context.Context, text string, e outbox.Event) error {
			fmt.Println("siren:", text)
			return nil
		}),
	)
	if err != nil {
		fmt.Println(err)
	}
	for name, payload := range map[string]any{"reading.taken": 21.5, "alarm.raised": "fire"} {
		if _, err := ob.Enqueue(ctx, name, payload); err != nil {
			fmt.Println(err)
		}
	}
	drained, err := ob.DrainMux(ctx, mux)
	fmt.Println(drained.Delivered, "delivered,", drained.Waiting, "waits:", err)
	// Output:
	// siren: fire
	// 1 delivered, 1 waits: outbox: destination unavailable: destination "reading.*": HTTP status 503
}

func ExampleCopy() {
	ctx := context.Background()
	old, store := mem.New(), mem.New() // bolt.Open(dir), and the store of the next years
	if _, err := outbox.New(old).Enqueue(ctx, "order.created", map[string]any{"id": 7}); err != nil {
		fmt.Println(err)
	}

	// At every start, before anything is published. Once all has moved it does nothing.
	copied, err := outbox.Copy(ctx, old, store)
	fmt.Println("moved:", copied.Events, err)

	drained, err := outbox.New(store).Drain(ctx, func(_ context.Context, e outbox.Event) error {
		fmt.Println(e.Name, string(e.Payload))
		return nil
	})
	fmt.Println("delivered:", drained.Delivered, err)
	// Output:
	// moved: 1 <nil>
	// order.created {"id":7}
	// delivered: 1 <nil>
}
