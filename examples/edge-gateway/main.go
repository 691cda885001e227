// Edge-gateway stands between a thousand sensors and a broker whose uplink comes and
// goes. It shows what the outbox does for such a program:
//
//   - the state of a sensor matters only as it is now: while the link is down, one value
//     of each waits, however long it lasts (latest only);
//   - alarms leave before everything else, in the order they were raised (priority, key);
//   - log lines are of no use when they are old, and all together may take so much of the
//     disk and no more; the receiver is told what was dropped (expiry, quota, gap markers);
//   - the display in the hall is another destination, and goes on meanwhile (mux);
//   - a health endpoint says how things are.
//
// Run it:
//
//	go run ./examples/edge-gateway                          # the story: broker, outage and all
//	go run ./examples/edge-gateway -broker host:port -health :8080
//
// Start from gateway.go: how the outbox is set up. mqttish.go is the client of the
// broker, sensors.go what happens, health.go the endpoint, demo*.go the story.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("edge-gateway", flag.ContinueOnError)
	flags.SetOutput(stderr)
	c := config{display: stdout}
	flags.StringVar(&c.dir, "dir", "gateway-outbox", "folder of the outbox")
	flags.StringVar(&c.broker, "broker", "", "host:port of the broker; without it, the story is played")
	flags.StringVar(&c.health, "health", "127.0.0.1:8780", "address of the health endpoint")
	flags.IntVar(&c.sensors, "sensors", 1000, "number of sensors")
	flags.DurationVar(&c.every, "every", time.Second, "how often each of them reports")
	flags.DurationVar(&c.logLife, "log-life", time.Hour, "how long a log line is worth sending")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 2
	}
	var err error
	if c.broker == "" {
		err = playStory(ctx, stdout)
	} else {
		err = serve(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(stderr, "edge-gateway:", err)
		return 1
	}
	return 0
}

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, c config) (err error) {
	g, err := openGateway(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	address, endHealth, err := g.serveHealth(c.health)
	if err != nil {
		return err
	}
	defer endHealth()
	fmt.Fprintln(c.display, "health on http://"+address+"/health")

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sensing := make(chan error, 1)
	go func() {
		defer stop()
		sensing <- g.sense(ctx)
	}()
	err = g.deliver(ctx) // until ctx ends, or the store has failed
	stop()
	return errors.Join(err, <-sensing)
}
