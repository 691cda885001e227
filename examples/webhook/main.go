// Webhook delivers events as signed webhooks, in the way of the Standard Webhooks
// specification (standardwebhooks.com): the receiver can tell who sent them, that they
// are fresh, and which it has had before.
//
//	go run ./examples/webhook                                     # the story, with a receiver in the same process
//	go run ./examples/webhook -url https://… -secret whsec_…      # read "NAME JSON" lines from stdin, deliver them to yours
//
// deliver.go is the publisher: what an answer means. sign.go is the signature, and how
// to check one. The story is in demo.go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	flags := flag.NewFlagSet("webhook", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "webhook-outbox", "folder of the outbox")
	url := flags.String("url", "", "where to deliver; without it, the story is played")
	secret := flags.String("secret", os.Getenv("WEBHOOK_SECRET"), "the signing secret, whsec_ and base64; WEBHOOK_SECRET by default")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	if *url == "" {
		err = playStory(ctx, stdout)
	} else {
		var key signingKey
		if key, err = parseSecret(*secret); err != nil {
			fmt.Fprintln(stderr, "webhook:", err)
			return 2
		}
		err = forward(ctx, *dir, &sender{url: *url, key: key}, stdin)
	}
	if err != nil {
		fmt.Fprintln(stderr, "webhook:", err)
		return 1
	}
	return 0
}

// openOutbox opens the outbox in a folder.
func openOutbox(dir string) (*bolt.Store, *outbox.Outbox, error) {
	store, err := bolt.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	return store, outbox.New(store,
		outbox.WithPublishTimeout(15*time.Second),
		// Standard Webhooks asks for retries over days. These are the times between
		// refusals; a receiver that is not there at all costs no attempt.
		outbox.WithBackoff(outbox.Schedule(5*time.Second, 5*time.Minute, 30*time.Minute, 2*time.Hour, 5*time.Hour, 10*time.Hour)),
		outbox.WithDefaults(outbox.WithMaxAttempts(10))), nil
}

// forward accepts events from in and delivers them, until in ends and all that can be
// delivered now is, or ctx ends. The rest waits for the next start.
func forward(ctx context.Context, dir string, to *sender, in io.Reader) (err error) {
	store, ob, err := openOutbox(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	delivering, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- ob.Start(delivering, to.send) }()
	err = accept(ctx, ob, in)
	stop()
	if err = errors.Join(err, <-stopped); err != nil || ctx.Err() != nil {
		return err
	}
	_, err = ob.Drain(ctx, to.send)
	return err
}

// accept makes each line, a name and JSON, an event.
func accept(ctx context.Context, ob *outbox.Outbox, in io.Reader) error {
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan() && ctx.Err() == nil; n++ {
		name, payload, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if name == "" {
			continue
		}
		if !ok || !json.Valid([]byte(payload)) {
			return fmt.Errorf("line %d: want a name and JSON, have %q", n, lines.Text())
		}
		if _, err := ob.Enqueue(ctx, name, json.RawMessage(payload)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}
