package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// demoLimit ends a demonstration that hangs.
const demoLimit = 2 * time.Minute

// errBroken is returned when the demonstration has shown that a promise is broken.
var errBroken = errors.New("the outbox has not kept its promise")

// demo plays the story: this program, in a process of its own, takes in orders and
// cannot deliver them; it is killed half way; it is started again; the destination
// comes up. It keeps account from outside, as a witness: what the program has said
// to be safe must arrive, whatever happens to it.
func demo(ctx context.Context, out io.Writer) error {
	limited, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("the demonstration has not ended within %s", demoLimit))
	defer cancel()
	err := story(limited, out)
	if err == nil || errors.Is(err, errBroken) || limited.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err() // that the process was killed because of it is no news
	}
	return context.Cause(limited)
}

func story(ctx context.Context, out io.Writer) error {
	orders, err := sampleOrders()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "goutbox-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dest, err := newDestination(orders)
	if err != nil {
		return err
	}
	defer dest.down()
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "%4.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}

	say("The destination, %s, is down. A process begins to take in %d orders for it.", dest.url(), len(orders))
	first, err := takeInAndKill(ctx, dest.url(), dir, len(orders))
	if err != nil {
		return err
	}
	say("Killed it with SIGKILL, after it had said that order %d was safe.", first.accepted)

	say("Started it again, in the same folder. It goes on with order %d.", first.accepted+1)
	second, err := takeInAndDeliver(ctx, dest, dir, first.accepted, len(orders), say)
	if err != nil {
		return err
	}
	say("The process has nothing left to deliver, and has ended.")

	fmt.Fprintln(out)
	return dest.tally().print(out, first.accepted, second)
}

// takeInAndKill runs the program until about half of the orders are safe, and kills
// it while it goes on. It could not deliver any: its destination is down.
func takeInAndKill(ctx context.Context, url, dir string, total int) (witness, error) {
	at := total*4/10 + rand.N(total*2/10+1)
	c, err := startChild(ctx, url, dir, 0)
	if err != nil {
		return witness{}, err
	}
	killed := false
	for c.next() {
		if c.accepted >= at && !killed {
			killed = true
			if err := c.cmd.Process.Kill(); err != nil {
				c.end()
				return witness{}, fmt.Errorf("kill the process: %w", err)
			}
		}
	}
	// What it had said before it died was still in the pipe, and counts.
	if err := c.cmd.Wait(); !killed {
		return witness{}, c.failure(err)
	}
	return c.witness, nil
}

// takeInAndDeliver runs the program to its end. The destination comes up when all
// orders are taken in.
func takeInAndDeliver(ctx context.Context, dest *destination, dir string, skip, total int, say func(string, ...any)) (witness, error) {
	c, err := startChild(ctx, dest.url(), dir, skip)
	if err != nil {
		return witness{}, err
	}
	comeUp := func() error {
		if c.accepted < total || dest.isUp() {
			return nil
		}
		say("All %d orders are safe. The destination comes up.", total)
		return dest.up()
	}
	for err = comeUp(); err == nil && c.next(); {
		err = comeUp()
	}
	if err != nil {
		c.end()
		return c.witness, err
	}
	if err := c.cmd.Wait(); err != nil {
		return c.witness, c.failure(err)
	}
	return c.witness, nil
}

// order is what the witness knows of an order.
type order struct {
	line     int
	customer string
}

// sampleOrders reads the sample by business ID.
func sampleOrders() (map[string]order, error) {
	orders := map[string]order{}
	for i, text := range strings.Split(strings.TrimSpace(string(sample)), "\n") {
		var o struct{ ID, Customer string }
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return nil, fmt.Errorf("line %d of the sample: %w", i+1, err)
		}
		orders[o.ID] = order{i + 1, o.Customer}
	}
	return orders, nil
}
