package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// playStory shows a day of the command. Each step is a process of its own that ends,
// as it would be from a shell.
func playStory(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "goutbox-cli-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil { // nobody answers there now
		return err
	}
	s := story{ctx: ctx, out: out, flags: []string{"-dir", dir, "-url", "http://" + address + "/events"}}

	s.say("The laptop is offline. Events are noted all the same:")
	s.call(statusOK, "add", "backup.done", `{"host":"nas","files":1200}`)
	s.call(statusOK, "add", "backup.done", `{"host":"mail","files":88}`)
	s.call(statusOK, "add", "backup.failed", `{"host":"old","error":"disk"}`)
	s.call(statusOffline, "drain")

	s.say("It is online, but the receiver does not know backup.failed yet:")
	r, err := receive(address)
	if err != nil {
		return err
	}
	defer r.close()
	s.call(statusOK, "drain")
	s.call(statusOK, "list")

	s.say("The receiver was mended:")
	r.learn("backup.failed")
	s.call(statusOK, "requeue")
	s.call(statusOK, "drain")
	if s.err == nil && r.count() != 3 {
		s.err = fmt.Errorf("the receiver has %d events of 3", r.count())
	}
	if s.err == nil {
		s.say("Three events noted, three received, each once.")
	}
	return s.err
}

// story plays one call after another, until one ends otherwise than it should.
type story struct {
	ctx   context.Context
	out   io.Writer
	flags []string
	err   error
}

func (s *story) say(text string) {
	if s.err == nil {
		fmt.Fprintf(s.out, "\n%s\n", text)
	}
}

// call runs this program once more.
func (s *story) call(want int, args ...string) {
	if s.err != nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		s.err = err
		return
	}
	began := time.Now()
	cmd := exec.CommandContext(s.ctx, self, append(append([]string{}, s.flags...), args...)...)
	output, err := cmd.CombinedOutput()
	fmt.Fprintf(s.out, "  $ cli %s   # %d ms, status %d\n", strings.Join(args, " "), time.Since(began).Milliseconds(), cmd.ProcessState.ExitCode())
	for line := range strings.Lines(string(output)) {
		fmt.Fprint(s.out, "    ", line)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		s.err = fmt.Errorf("cli %s: status %d, not %d (%v)", strings.Join(args, " "), got, want, err)
	}
}

// receiver is the destination of the story. It knows backup.done only, at first.
type receiver struct {
	server *http.Server
	mu     sync.Mutex
	known  map[string]bool
	seen   map[string]bool
}

func receive(address string) (*receiver, error) {
	r := &receiver{known: map[string]bool{"backup.done": true}, seen: map[string]bool{}}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Second}
	go func() { _ = r.server.Serve(ln) }() // ends with close
	return r, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known[req.Header.Get("Event-Name")] {
		http.Error(w, "unknown event", http.StatusUnprocessableEntity)
		return
	}
	r.seen[req.Header.Get("Event-Id")] = true
}

func (r *receiver) learn(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[name] = true
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *receiver) close() { _ = r.server.Close() }
