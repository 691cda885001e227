package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// progress shows how far the run is: on a terminal as one line that changes, else
// as one line for each measurement that has ended. It is safe for concurrent use.
type progress struct {
	w        io.Writer
	terminal bool
	total    int // measurements of the run

	mu    sync.Mutex // guards what follows
	done  int
	what  string
	stage string
	since time.Time
	width int // of what the line shows now

	stop, stopped chan struct{}
}

func newProgress(w io.Writer, total int) *progress {
	p := &progress{w: w, terminal: isTerminal(w), total: total, since: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	go p.tick() // ends with close, which waits for it
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// tick keeps the seconds of the line going.
func (p *progress) tick() {
	defer close(p.stopped)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.drawLocked()
			p.mu.Unlock()
		}
	}
}

// begin says which measurement is next.
func (p *progress) begin(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.stage = what, "warming up"
	p.drawLocked()
}

// say says what it does now.
func (p *progress) say(stage string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stage = stage
	p.drawLocked()
}

// end says what came out of it.
func (p *progress) end(result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if !p.terminal {
		fmt.Fprintf(p.w, "# %d/%d %s: %s\n", p.done, p.total, p.what, result)
	}
	p.what = ""
}

// clear takes the line away, so that something else can be printed.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = ""
	p.showLocked("")
}

func (p *progress) close() {
	close(p.stop)
	<-p.stopped
	p.clear()
}

func (p *progress) drawLocked() {
	if p.what == "" {
		return
	}
	p.showLocked(fmt.Sprintf("[%d/%d %s] %s: %s", p.done+1, p.total, time.Since(p.since).Round(time.Second), p.what, p.stage))
}

func (p *progress) showLocked(text string) {
	if !p.terminal {
		return
	}
	n := utf8.RuneCountInString(text)
	fmt.Fprint(p.w, "\r"+text+strings.Repeat(" ", max(p.width-n, 0))+"\r") // what is printed next begins on the left
	p.width = n
}
