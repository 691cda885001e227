package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit statuses.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusInterrupted = 130 // what shells report for Ctrl-C
)

const usage = `Usage of quickstart:

  quickstart
        Play the whole story, in a temporary folder: take in orders while the
        destination is down, be killed half way, start again, deliver, count.

  quickstart -url URL [-in FILE] [-dir FOLDER] [-skip N] [-wait TIME] [-ack]
        Take in orders, one line of JSON each, and POST them to URL.

`

// settings are what the flags say.
type settings struct {
	url  string
	in   string
	dir  string
	skip int
	wait time.Duration
	ack  bool
}

// run is the program: it returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return statusDone
	case err != nil:
		fmt.Fprintf(stderr, "quickstart: %s (quickstart -h lists the flags)\n", err)
		return statusUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if s.url == "" {
		err = demo(ctx, stdout)
	} else {
		err = forwardInput(ctx, s, stdin, stdout)
	}
	switch {
	case err == nil:
		return statusDone
	case ctx.Err() != nil && err == ctx.Err(): // not wrapped in something that is to be told
		fmt.Fprintln(stderr, "quickstart: interrupted")
		return statusInterrupted
	}
	fmt.Fprintln(stderr, "quickstart:", err)
	return statusFailed
}

// parse reads the flags. Its errors are one line each.
func parse(args []string, stderr io.Writer) (s settings, err error) {
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.StringVar(&s.url, "url", "", "deliver to this `URL`, with one POST for each order")
	f.StringVar(&s.in, "in", "", "read the orders from this `FILE`, - for standard input (default the sample orders.ndjson)")
	f.StringVar(&s.dir, "dir", "outbox-data", "keep what waits in this `FOLDER`")
	f.IntVar(&s.skip, "skip", 0, "skip the first `N` lines of the input: an earlier run has accepted them")
	f.DurationVar(&s.wait, "wait", 30*time.Second, "after the end of the input, give up when nothing gets through for this `TIME`")
	f.BoolVar(&s.ack, "ack", false, "print \"accepted N\" as soon as line N is safe")
	f.SetOutput(io.Discard)
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		f.SetOutput(stderr)
		f.PrintDefaults()
		return s, err
	} else if err != nil {
		return s, err
	}
	u, urlErr := url.Parse(s.url)
	switch {
	case f.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.url == "" && f.NFlag() > 0:
		return s, errors.New("the other flags need -url: where are the orders to go")
	case s.url != "" && (urlErr != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		return s, fmt.Errorf("-url %q is not of the form http://host/path", s.url)
	case s.dir == "":
		return s, errors.New("-dir is empty")
	case s.skip < 0:
		return s, fmt.Errorf("-skip %d is negative", s.skip)
	case s.wait < 0:
		return s, fmt.Errorf("-wait %s is negative", s.wait)
	}
	return s, nil
}

// forwardInput forwards what the flags say, and sums up.
func forwardInput(ctx context.Context, s settings, stdin io.Reader, stdout io.Writer) (err error) {
	in, err := open(s.in, stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	store, ob, err := openOutbox(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, store.Close()) }() // the first error is the cause of the others

	sum := summary{line: s.skip}
	if err := sum.begin(ctx, ob, stdout); err != nil {
		return err
	}
	f := forwarder{outbox: ob, publish: post(s.url), skip: s.skip, wait: s.wait}
	f.safe = func(line int) {
		sum.line = line
		if s.ack {
			fmt.Fprintln(stdout, "accepted", line)
		}
	}
	err = f.forward(ctx, in)
	if endErr := sum.end(ob); endErr != nil {
		return cmp.Or(err, endErr)
	}
	sum.print(stdout, s.dir, err == nil)
	if err == nil && sum.dead() > 0 {
		err = fmt.Errorf("the destination has refused %d orders for good", sum.dead())
	}
	return err
}
