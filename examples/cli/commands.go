package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// command is one call of the program.
type command struct {
	dir    string
	url    string
	budget time.Duration
	out    io.Writer
}

// add notes an event. When it returns nil the event survives whatever comes (P1).
func (c command) add(ctx context.Context, ob *outbox.Outbox, name, payload string) error {
	if !json.Valid([]byte(payload)) {
		return fmt.Errorf("the payload is not JSON: %s", payload)
	}
	id, err := ob.Enqueue(ctx, name, json.RawMessage(payload))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "noted %s %s\n", id, name)
	return nil
}

// drain delivers what is due, within the budget. If the destination is not there, it
// ends as soon as that is clear, and what waits has lost nothing by it (P6).
func (c command) drain(ctx context.Context, ob *outbox.Outbox) error {
	ctx, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	n, err := ob.Drain(ctx, c.post)
	fmt.Fprintf(c.out, "delivered %d, will be retried %d, dead %d, waiting %d\n", n.Delivered, n.Retried, n.Dead, n.Waiting)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // the rest goes with the next call
	}
	return err
}

// post is the publisher.
func (c command) post(ctx context.Context, e outbox.Event) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(e.Payload))
	if err != nil {
		return outbox.Permanent(err)
	}
	req.Header.Set("Content-Type", e.ContentType)
	req.Header.Set("Event-Id", e.ID.String()) // the receiver deduplicates on it
	req.Header.Set("Event-Name", e.Name)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // not reached: the outbox sees that by itself
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection can be used again
	return outbox.HTTPError(resp.StatusCode, resp.Header)
}

// list says what there is, one line an event.
func (c command) list(ctx context.Context, ob *outbox.Outbox) error {
	for task, err := range ob.Tasks(ctx, outbox.Filter{}) {
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s  %-8s %-16s attempts %d", task.ID, task.State, task.Name, task.Attempts)
		if n := len(task.Failures); n > 0 {
			fmt.Fprintf(c.out, "  last: %s", task.Failures[n-1].Error)
		}
		fmt.Fprintln(c.out)
	}
	return nil
}

// requeue makes the dead wait again.
func (c command) requeue(ctx context.Context, ob *outbox.Outbox) error {
	n, err := ob.RequeueWhere(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}})
	fmt.Fprintf(c.out, "requeued %d\n", n)
	return err
}
