package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// destination is the HTTP server to which the orders go. It notes what it gets.
type destination struct {
	orders map[string]order
	held   *net.TCPConn // keeps the port until the server takes it
	addr   string
	server *http.Server // nil while it is down

	mu  sync.Mutex // guards got
	got tally
}

// tally counts what has arrived.
type tally struct {
	expected   int
	posts      int            // requests that carried an order
	events     map[string]int // posts by event ID
	orders     map[string]int // posts by business ID
	last       map[string]int // last line, by customer
	disordered int            // orders that came after a later one of their customer
	strangers  int            // orders that nobody has placed
}

// newDestination finds an address on which nobody listens: connections are refused.
func newDestination(orders map[string]order) (*destination, error) {
	held, err := holdPort()
	if err != nil {
		return nil, fmt.Errorf("find a port for the destination: %w", err)
	}
	return &destination{
		orders: orders,
		held:   held,
		addr:   held.LocalAddr().String(),
		got:    newTally(len(orders)),
	}, nil
}

// holdPort takes a port without listening on it. A free one could become that of
// another program before the destination comes up, and the orders would go there. So
// it is made the near end of a connection, which for the system is in use.
func holdPort() (*net.TCPConn, error) {
	far, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer far.Close()
	held, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, far.Addr().(*net.TCPAddr))
	if err != nil {
		return nil, err
	}
	return held, held.SetLinger(0) // when it is closed the port is free at once
}

func (d *destination) url() string { return "http://" + d.addr + "/orders" }
func (d *destination) isUp() bool  { return d.server != nil }

// up starts the server.
func (d *destination) up() error {
	_ = d.held.Close() // nobody has used it
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		return fmt.Errorf("start the destination: %w", err)
	}
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go d.server.Serve(l) // down ends it
	return nil
}

func (d *destination) down() {
	_ = d.held.Close()
	if d.server != nil {
		_ = d.server.Close() // nobody waits for its answers any more
	}
}

// ServeHTTP takes one order.
func (d *destination) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var o struct{ ID, Customer string }
	if err := json.Unmarshal(body, &o); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	d.mu.Lock()
	d.got.add(o.ID, r.Header.Get("Idempotency-Key"), d.orders)
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func newTally(expected int) tally {
	return tally{expected: expected, events: map[string]int{}, orders: map[string]int{}, last: map[string]int{}}
}

func (t *tally) add(id, eventID string, placed map[string]order) {
	t.posts++
	o, ok := placed[id]
	if !ok {
		t.strangers++
		return
	}
	t.events[eventID]++
	t.orders[id]++
	switch {
	case t.orders[id] > 1: // a duplicate changes nothing
	case o.line < t.last[o.customer]:
		t.disordered++
	default:
		t.last[o.customer] = o.line
	}
}

// tally returns what has arrived. Nothing more does: the program has ended.
func (d *destination) tally() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.got
}

// print gives the account, one line for each figure, and an error if a promise of
// the outbox is broken.
func (t tally) print(out io.Writer, killedAt int, second witness) error {
	line := func(name string, n int, what string) {
		fmt.Fprintf(out, "%-17s %s\n", fmt.Sprint(name, " ", n), what)
	}
	lost := t.expected - len(t.orders)
	handedIn := len(t.events) - len(t.orders)
	again := t.posts - t.strangers - len(t.events)
	line("accepted", second.accepted, "orders that the program has said to be safe, before or after the kill")
	line("killed at", killedAt, "the last of them before the kill")
	line("recovered", second.recovered, "waited in the folder at the second start: those, and perhaps one of which it could not tell")
	line("delivered", len(t.orders), "different orders, as the destination counts them")
	line("duplicates", handedIn+again, fmt.Sprintf("%d handed in twice, because nobody knew; %d delivered twice under one event ID", handedIn, again))
	line("lost", lost, "accepted, but never delivered")
	line("out of order", t.disordered, fmt.Sprintf("delivered after a later order of the same one of %d customers", len(t.last)))
	switch {
	case lost > 0 || second.recovered < killedAt:
		return fmt.Errorf("%w: %d orders are lost, and %d of %d were there at the second start", errBroken, lost, second.recovered, killedAt)
	case t.disordered > 0:
		return fmt.Errorf("%w: %d orders are out of order", errBroken, t.disordered)
	case t.strangers > 0:
		return fmt.Errorf("%w: %d orders arrived that nobody had placed", errBroken, t.strangers)
	}
	return nil
}
