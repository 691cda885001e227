// Quickstart takes in orders, one line of JSON each, and delivers every one of them
// to an HTTP endpoint: also when the endpoint is down, and when the program itself
// is killed on the way.
//
//	go run ./examples/quickstart                        # the whole story by itself: see demo.go
//	go run ./examples/quickstart -url http://host/path  # the same program, with an endpoint of yours
//	tail -f orders.ndjson | go run ./examples/quickstart -url http://host/path -in -
//
// To start a program of your own from it, read this file, post.go and input.go: they
// are the program. In cli.go and summary.go are its flags and what it prints. The
// files demo*.go are the stage on which the story is played; they start this program
// in a process of its own and know nothing of it but its flags.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// openOutbox opens the outbox in a folder, or begins one there. Whoever opens the
// store closes it, when nothing uses the outbox any more.
func openOutbox(dir string) (*bolt.Store, *outbox.Outbox, error) {
	store, err := bolt.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	return store, outbox.New(store,
		outbox.WithPublishTimeout(10*time.Second),
		// An endpoint that is down costs no attempt. Ten times "500 Internal Server
		// Error" for one order make it a dead letter, which is kept too.
		outbox.WithDefaults(outbox.WithMaxAttempts(10))), nil
}

// forwarder takes orders from an input to a destination.
type forwarder struct {
	outbox  *outbox.Outbox
	publish outbox.Publisher
	skip    int            // lines of the input that an earlier run has accepted
	safe    func(line int) // called when a line is on disk, synced
	wait    time.Duration  // after the end of the input: give up if nothing gets through for so long
}

// forward accepts the orders of in and delivers them, and returns when none is left
// to deliver. What it could not deliver stays in the outbox, for the next start.
func (f forwarder) forward(ctx context.Context, in io.Reader) error {
	// Deliver while the input is read: it may be one that never ends. Most programs
	// are of that kind, and need no more than Start and Enqueue.
	delivering, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() {
		defer stop() // Start returns early only if the store has failed: then reading on is no use
		stopped <- f.outbox.Start(delivering, f.publish)
	}()
	err := f.accept(delivering, lines(delivering, in, f.skip))
	stop()
	err = cmp.Or(<-stopped, err)

	// This one can end, and delivers the rest first.
	if err == nil {
		err = f.deliverRest(ctx)
	}
	return err
}

// accept makes each line an event.
func (f forwarder) accept(ctx context.Context, in iter.Seq[line]) error {
	for l := range in {
		var order struct{ Customer string }
		if l.err == nil {
			l.err = json.Unmarshal(l.text, &order)
		}
		if l.err != nil {
			return fmt.Errorf("line %d of the input: %w", l.number, l.err)
		}
		// The key keeps the orders of one customer in line; those of different
		// customers do not wait for each other.
		err := f.enqueue(ctx, "order.created", json.RawMessage(l.text), outbox.WithKey(order.Customer))
		if err != nil {
			return fmt.Errorf("accept line %d: %w", l.number, err)
		}
		f.safe(l.number)
	}
	return ctx.Err()
}

// enqueue accepts an event. If there is no room it waits until deliveries have made
// some: the input can wait too. A sensor cannot, and would drop the value instead.
func (f forwarder) enqueue(ctx context.Context, name string, payload any, opts ...outbox.EventOption) error {
	for told := false; ; told = true {
		_, err := f.outbox.Enqueue(ctx, name, payload, opts...)
		if !errors.Is(err, outbox.ErrFull) && !errors.Is(err, outbox.ErrDiskFull) {
			return err
		}
		if !told {
			slog.Warn("no room for the next order, waiting for some", "error", err)
		}
		if sleep(ctx, time.Second) != nil {
			return err
		}
	}
}

// deliverRest delivers until nothing waits.
func (f forwarder) deliverRest(ctx context.Context) error {
	for began := time.Now(); ; {
		n, err := f.outbox.Drain(ctx, f.publish)
		pause := 100 * time.Millisecond // what waits still is not due before its next attempt
		switch {
		case err == nil && n.Waiting == 0:
			return nil
		case errors.Is(err, outbox.ErrUnavailable):
			pause = time.Second
		case err != nil:
			return err
		}
		if n.Delivered+n.Dead > 0 {
			began = time.Now()
		}
		if time.Since(began) >= f.wait {
			if err == nil {
				err = errors.New("the destination answers, but has put off what waits")
			}
			return fmt.Errorf("nothing got through for %s: %w", f.wait, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep waits for d, or returns the error of ctx when that ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
