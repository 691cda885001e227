package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// witness is what the program has said while it lived.
type witness struct {
	recovered int // how many events waited in the folder when it started
	accepted  int // the last line that is safe
}

// child is this program in a process of its own, as a forwarder.
type child struct {
	witness
	cmd    *exec.Cmd
	out    *bufio.Scanner
	errors bytes.Buffer
}

// startChild starts the program on the sample. When ctx ends it is killed: it can
// stand that.
func startChild(ctx context.Context, url, dir string, skip int) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	c := &child{witness: witness{accepted: skip}}
	c.cmd = exec.CommandContext(ctx, self, "-url", url, "-dir", dir, "-skip", strconv.Itoa(skip), "-ack")
	c.cmd.Stderr = &c.errors
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process: %w", err)
	}
	return c, nil
}

// next reads what the program says next. It returns false when it has ended.
func (c *child) next() bool {
	if !c.out.Scan() {
		return false
	}
	var word string
	var n int
	// The last line of a program that was killed may be cut: "accepted 12" of 1234.
	// It is less than the truth then, so no harm is done.
	if _, err := fmt.Sscan(c.out.Text(), &word, &n); err != nil {
		return true
	}
	switch word {
	case "waiting":
		c.recovered = n
	case "accepted":
		c.accepted = max(c.accepted, n)
	}
	return true
}

// end kills the program and waits for its end.
func (c *child) end() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	_ = c.cmd.Wait()
}

// failure is the error of a program that has ended as it should not have.
func (c *child) failure(err error) error {
	if err == nil {
		err = errors.New("it ended early")
	}
	return fmt.Errorf("the process: %w; it said:\n%s", err, bytes.TrimSpace(c.errors.Bytes()))
}
