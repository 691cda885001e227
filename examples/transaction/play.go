package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "transaction:", err)
		os.Exit(1)
	}
}

// run plays the same in both kinds of shop, each in a temporary folder.
func run(ctx context.Context, out io.Writer) error {
	for _, kind := range []struct {
		what string
		open func(dir string) (*shop, error)
	}{
		{"The shop owns the database, the outbox is attached to it:", openShop},
		{"The outbox owns the database, the shop's data are in it:", openSmallShop},
	} {
		fmt.Fprintln(out, kind.what)
		if err := play(ctx, out, kind.open); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "Checked in both: of o-1 the order and its event, of o-2 neither.")
	return nil
}

// play places two orders, of which the stock covers the first alone, and checks that
// the world hears of that one and of nothing else.
func play(ctx context.Context, out io.Writer, open func(dir string) (*shop, error)) (err error) {
	dir, err := os.MkdirTemp("", "goutbox-transaction-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	err = s.update(ctx, func(tx *bbolt.Tx) error { return put(tx, "stock", "espresso machine", 5) })
	if err != nil {
		return err
	}
	if err := s.placeOrder(ctx, order{"o-1", "ada", "espresso machine", 3}); err != nil {
		return fmt.Errorf("place o-1: %w", err)
	}
	fmt.Fprintln(out, "  o-1 is placed: order, stock and event are committed as one")
	err = s.placeOrder(ctx, order{"o-2", "bob", "espresso machine", 4})
	if !errors.Is(err, errOutOfStock) {
		return fmt.Errorf("place o-2: %v instead of: %v", err, errOutOfStock)
	}
	fmt.Fprintf(out, "  o-2 is refused (%s): order and event are rolled back as one\n", err)

	delivered, err := deliver(ctx, s.outbox)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "  delivered:", delivered)
	if !slices.Equal(delivered, []string{"o-1"}) {
		return fmt.Errorf("delivered %v instead of o-1 alone", delivered)
	}
	return check(ctx, s)
}

// deliver publishes what waits and returns the orders that the world heard of. A
// program that goes on running has Outbox.Start do this, in a goroutine.
func deliver(ctx context.Context, ob *outbox.Outbox) (ids []string, err error) {
	var mu sync.Mutex // publishers run in several goroutines
	publish := func(_ context.Context, e outbox.Event) error {
		var o order
		if err := e.Decode(&o); err != nil {
			return outbox.Permanent(err)
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, o.ID)
		return nil
	}
	_, err = ob.Drain(ctx, publish)
	return ids, err
}

// check looks at what is left: the rolled back order was never there, for the shop
// as for the outbox.
func check(ctx context.Context, s *shop) error {
	st, err := s.outbox.Stats(ctx)
	if err != nil {
		return err
	}
	if st.Accepted != 1 || st.Delivered != 1 {
		return fmt.Errorf("the outbox has accepted %d events and delivered %d, instead of 1 and 1", st.Accepted, st.Delivered)
	}
	for task, err := range s.outbox.Tasks(ctx, outbox.Filter{}) {
		return errors.Join(err, fmt.Errorf("the outbox still holds event %s", task.ID))
	}
	return s.update(ctx, func(tx *bbolt.Tx) error {
		var first, second order
		var left int
		err := errors.Join(get(tx, "orders", "o-1", &first), get(tx, "orders", "o-2", &second),
			get(tx, "stock", "espresso machine", &left))
		if err == nil && (first.ID != "o-1" || second.ID != "" || left != 2) {
			err = fmt.Errorf("the shop's data are wrong: orders %q and %q, %d left", first.ID, second.ID, left)
		}
		return err
	})
}
