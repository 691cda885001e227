package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/goutbox/goutbox/outbox"
)

// client speaks a protocol that is as much like MQTT's QoS 1 as a screenful of code can
// be: it sends one message and waits for the broker to say that it has it.
//
//	client:  PUB <id> <topic> <length>\n<payload>
//	broker:  ACK <id>\n
type client struct {
	address string

	mu   sync.Mutex // guards the connection, and is held during an exchange
	conn net.Conn
	in   *bufio.Reader
}

// publish is the publisher. It returns errors of the network as they are: the outbox
// knows them for an outage. What it was doing is not known then, so the connection is
// given up; the broker may get the event twice, under the same ID.
func (c *client) publish(ctx context.Context, e outbox.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx); err != nil {
		return err
	}
	// The end of ctx interrupts a read or write that hangs.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	err := c.exchange(e)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
	return err
}

func (c *client) connect(ctx context.Context) (err error) {
	if c.conn != nil {
		return nil
	}
	var dialer net.Dialer
	if c.conn, err = dialer.DialContext(ctx, "tcp", c.address); err != nil {
		c.conn = nil
		return err
	}
	c.in = bufio.NewReader(c.conn)
	return nil
}

func (c *client) exchange(e outbox.Event) error {
	message := append(fmt.Appendf(nil, "PUB %s %s %d\n", e.ID, e.Name, len(e.Payload)), e.Payload...)
	if _, err := c.conn.Write(message); err != nil {
		return err
	}
	answer, err := c.in.ReadString('\n')
	if errors.Is(err, io.EOF) {
		return outbox.Unavailable(fmt.Errorf("the broker has hung up: %w", err))
	}
	if err != nil {
		return err
	}
	if answer != "ACK "+e.ID.String()+"\n" {
		return fmt.Errorf("the broker said %q", answer)
	}
	return nil
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// message is what a broker receives.
type message struct {
	id, topic string
	payload   []byte
}

// receive reads one message, for brokers.
func receive(in *bufio.Reader) (m message, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return m, err
	}
	parts := strings.Fields(line)
	if len(parts) != 4 || parts[0] != "PUB" {
		return m, fmt.Errorf("not a message: %q", line)
	}
	n, err := strconv.Atoi(parts[3])
	if err != nil || n < 0 || n > 1<<20 {
		return m, fmt.Errorf("not a length: %q", parts[3])
	}
	m = message{id: parts[1], topic: parts[2], payload: make([]byte, n)}
	_, err = io.ReadFull(in, m.payload)
	return m, err
}
