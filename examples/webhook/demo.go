package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// demoSecret is for the story only. A real one is made with crypto/rand.
const demoSecret = "whsec_c2VjcmV0LWZvci10aGUtc3Rvcnktb25seS0xMjM0"

// playStory delivers a few events to a receiver that has a bad day.
func playStory(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "goutbox-webhook-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key, err := parseSecret(demoSecret)
	if err != nil {
		return err
	}
	r, err := newReceiver(key)
	if err != nil {
		return err
	}
	defer r.close()
	store, ob, err := openOutbox(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	to := &sender{url: r.url(), key: key}

	fmt.Fprintln(out, "The receiver is down for maintenance (503). Ten events come in:")
	r.set(func(string) int { return http.StatusServiceUnavailable })
	for i := range 10 {
		name := "invoice.paid"
		if i%5 == 4 {
			name = "invoice.voided"
		}
		if _, err := ob.Enqueue(ctx, name, map[string]int{"invoice": i}); err != nil {
			return err
		}
	}
	n, err := ob.Drain(ctx, to.send)
	if !errors.Is(err, outbox.ErrUnavailable) {
		return fmt.Errorf("expected an outage, got %w", err)
	}
	fmt.Fprintf(out, "  delivered %d, waiting %d, no attempt spent: %v\n", n.Delivered, n.Waiting, err)

	fmt.Fprintln(out, "It is back, asks for patience once (429, Retry-After: 1), and does not know invoice.voided (422):")
	r.set(r.patience())
	if err := deliverAll(ctx, ob, to); err != nil {
		return err
	}
	if err := listDead(ctx, ob, out); err != nil {
		return err
	}

	fmt.Fprintln(out, "The receiver has learned invoice.voided, and the dead letters get another chance:")
	r.set(func(string) int { return http.StatusNoContent })
	requeued, err := ob.RequeueWhere(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}, Name: "invoice.voided"})
	if err != nil {
		return err
	}
	if err := deliverAll(ctx, ob, to); err != nil {
		return err
	}
	fmt.Fprintf(out, "  requeued %d\n", requeued)
	st, err := ob.Stats(ctx)
	if err != nil {
		return err
	}
	got, forged := r.result()
	fmt.Fprintf(out, "Accepted %d, delivered %d; the receiver has %d different webhooks, signatures checked, %d refused.\n",
		st.Accepted, st.Delivered, got, forged)
	if got != 10 || st.Delivered != 10 || forged != 0 {
		return errors.New("that is not what should have happened")
	}
	return nil
}

// deliverAll delivers until nothing waits, delayed events too.
func deliverAll(ctx context.Context, ob *outbox.Outbox, to *sender) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for {
		n, err := ob.Drain(ctx, to.send)
		if err != nil || n.Waiting == 0 {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond): // what waits was put off by a second
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listDead shows the dead letters and why they died.
func listDead(ctx context.Context, ob *outbox.Outbox, out io.Writer) error {
	for task, err := range ob.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		if err != nil {
			return err
		}
		last := task.Failures[len(task.Failures)-1]
		fmt.Fprintf(out, "  dead: %s %s after %d attempt, %s: %s\n", task.ID, task.Name, task.Attempts, task.Reason, last.Error)
	}
	return nil
}

// receiver takes webhooks, checks them, and answers as it is told.
type receiver struct {
	key    signingKey
	ln     net.Listener
	server *http.Server

	mu     sync.Mutex
	answer func(name string) int
	seen   map[string]bool
	forged int
}

func newReceiver(key signingKey) (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{key: key, ln: ln, seen: map[string]bool{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Second}
	go func() { _ = r.server.Serve(ln) }() // ends with close
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.ln.Addr().String() + "/hooks" }
func (r *receiver) close()      { _ = r.server.Close() }

func (r *receiver) set(answer func(name string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// patience answers 429 to the third call, and 422 to what it does not know.
func (r *receiver) patience() func(string) int {
	calls := 0
	return func(name string) int {
		calls++
		switch {
		case calls == 3:
			return http.StatusTooManyRequests
		case name == "invoice.voided":
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.key.verify(req.Header, body, time.Now())
	}
	if err != nil {
		r.forged++
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	status := r.answer(req.Header.Get("Webhook-Type"))
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	if status == http.StatusNoContent {
		r.seen[req.Header.Get(headerID)] = true // a second delivery of one event changes nothing
		w.WriteHeader(status)
		return
	}
	http.Error(w, "unable to take "+req.Header.Get("Webhook-Type"), status)
}

func (r *receiver) result() (seen, forged int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen), r.forged
}
