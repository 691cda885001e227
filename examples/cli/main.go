// Cli is a command of the kind that ends at once: it notes what has happened and
// exits, and delivers when it can. There is no server and no background process;
// whatever was noted and not delivered goes with the next call, or with "drain" in a
// cron job.
//
//	cli add backup.done '{"host":"nas","bytes":1234}'   # a few milliseconds, also offline
//	cli drain                                           # deliver what is due, a few seconds at most
//	cli list                                            # what waits, what is dead
//	cli requeue                                         # give the dead another chance
//	cli                                                 # a story that shows all of it
//
// Start from this file and commands.go; the story is in demo.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit statuses. A script can tell "try again later" from "look at this".
const (
	statusOK      = 0
	statusFailed  = 1 // the outbox could not be used
	statusUsage   = 2
	statusOffline = 3 // nothing is lost, but the destination was not to be reached
)

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	flags := flag.NewFlagSet("cli", flag.ContinueOnError)
	flags.SetOutput(stderr)
	c := command{out: stdout}
	flags.StringVar(&c.dir, "dir", defaultDir(), "folder of the outbox")
	flags.StringVar(&c.url, "url", "http://127.0.0.1:8780/events", "where events go")
	flags.DurationVar(&c.budget, "budget", 5*time.Second, "how long drain may take")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: cli [flags] add NAME JSON | drain | list | requeue")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return statusUsage
	}
	var err error
	switch verb, rest := flags.Arg(0), max(flags.NArg()-1, 0); {
	case verb == "" && len(args) == 0:
		err = playStory(ctx, stdout)
	case verb == "add" && rest == 2:
		err = c.with(ctx, func(ob *outbox.Outbox) error { return c.add(ctx, ob, flags.Arg(1), flags.Arg(2)) })
	case verb == "drain" && rest == 0:
		err = c.with(ctx, func(ob *outbox.Outbox) error { return c.drain(ctx, ob) })
	case verb == "list" && rest == 0:
		err = c.with(ctx, func(ob *outbox.Outbox) error { return c.list(ctx, ob) })
	case verb == "requeue" && rest == 0:
		err = c.with(ctx, func(ob *outbox.Outbox) error { return c.requeue(ctx, ob) })
	default:
		flags.Usage()
		return statusUsage
	}
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, outbox.ErrUnavailable):
		fmt.Fprintln(stderr, "cli:", err)
		return statusOffline
	}
	fmt.Fprintln(stderr, "cli:", err)
	return statusFailed
}

// defaultDir is a folder of the user's own that stays.
func defaultDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "goutbox-cli")
}

// with opens the outbox, runs f, and closes it: only then is everything that f did
// certain to be on the disk.
func (c command) with(ctx context.Context, f func(*outbox.Outbox) error) error {
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	err = f(outbox.New(store, outbox.WithPublishTimeout(c.budget), outbox.WithDefaults(outbox.WithMaxAttempts(5))))
	return errors.Join(err, store.Close())
}

// open opens the store. One process at a time has it; two calls of a command may well
// meet, and the second waits a moment, for calls are short.
func (c command) open(ctx context.Context) (*bolt.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.budget)
	defer cancel()
	for {
		// Small segments: a command that notes a few events a day has no use for
		// megabytes of log.
		store, err := bolt.Open(c.dir, bolt.WithSegmentBytes(64<<10), bolt.WithMaxBytes(64<<20))
		if !errors.Is(err, outbox.ErrLocked) || ctx.Err() != nil {
			return store, err
		}
	}
}
