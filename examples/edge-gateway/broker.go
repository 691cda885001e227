package main

import (
	"bufio"
	"encoding/json"
	"net"
	"sync"

	"github.com/goutbox/goutbox/outbox"
)

// broker is the destination of the story: it takes messages, throws away those it has
// had before, and keeps books. It can go away and come back.
type broker struct {
	address string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	books books
}

// books are what the broker knows.
type books struct {
	seen   map[string]bool
	states map[int]int // the last round of each sensor
	alarms []int
	lines  int
	gaps   []outbox.Gap
	twice  int      // messages that it had before
	order  []string // topics, since it came back last
	stale  int      // states that were older than what it had
}

func newBroker() (*broker, error) {
	b := &broker{address: "127.0.0.1:0", conns: map[net.Conn]bool{}, books: books{seen: map[string]bool{}, states: map[int]int{}}}
	return b, b.come()
}

// come listens, at the same address each time.
func (b *broker) come() error {
	ln, err := net.Listen("tcp", b.address)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ln, b.address, b.books.order = ln, ln.Addr().String(), nil
	go b.accept(ln) // ends with leave
	return nil
}

// leave hangs up on everybody and lets nobody in.
func (b *broker) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.ln.Close()
	for conn := range b.conns {
		_ = conn.Close()
	}
	clear(b.conns)
}

func (b *broker) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		gone := b.ln != ln
		b.conns[conn] = true
		b.mu.Unlock()
		if gone {
			_ = conn.Close()
		}
		go b.serve(conn) // ends when the connection does
	}
}

func (b *broker) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		m, err := receive(in)
		if err != nil {
			_ = conn.Close()
			return
		}
		b.take(m)
		if _, err := conn.Write([]byte("ACK " + m.id + "\n")); err != nil {
			return
		}
	}
}

// take notes a message. It may come twice, and counts once.
func (b *broker) take(m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.books
	if k.seen[m.id] {
		k.twice++
		return
	}
	k.seen[m.id] = true
	k.order = append(k.order, m.topic)
	switch m.topic {
	case nameState:
		var s state
		_ = json.Unmarshal(m.payload, &s)
		if s.Round < k.states[s.Sensor] {
			k.stale++
		}
		k.states[s.Sensor] = max(k.states[s.Sensor], s.Round)
	case nameAlarm:
		var a alarm
		_ = json.Unmarshal(m.payload, &a)
		k.alarms = append(k.alarms, a.Number)
	case nameLog:
		k.lines++
	case outbox.GapName:
		var g outbox.Gap
		_ = json.Unmarshal(m.payload, &g)
		k.gaps = append(k.gaps, g)
	}
}

// look has f read the books.
func (b *broker) look(f func(k *books)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.books)
}
