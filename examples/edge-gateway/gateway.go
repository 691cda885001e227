package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

// The events of the gateway.
const (
	nameState = "sensor.state"
	nameAlarm = "alarm.raised"
	nameLog   = "log.line"
	nameShow  = "display.show"
)

// mayTake is how much disk what waits may take: the last resort when log lines come
// faster than they expire. The quota drops the oldest, whatever it is, so it is set well
// above what a thousand states and the alarms of a long outage need.
const mayTake = 16 << 20

type config struct {
	dir     string
	broker  string
	health  string
	sensors int
	every   time.Duration
	logLife time.Duration
	display io.Writer
}

// gateway is the program.
type gateway struct {
	config
	store  *bolt.Store
	outbox *outbox.Outbox
	mux    *outbox.Mux
	broker *client
}

// openGateway opens the outbox and says where what goes.
func openGateway(c config) (*gateway, error) {
	store, err := bolt.Open(c.dir,
		bolt.WithSegmentBytes(256<<10), // a gateway's flash is small
		bolt.WithMaxBytes(mayTake), bolt.WithOverflow(bolt.DropOldest))
	if err != nil {
		return nil, err
	}
	g := &gateway{config: c, store: store, mux: outbox.NewMux(), broker: &client{address: c.broker}}
	g.outbox = outbox.New(store,
		outbox.WithGapMarkers(), // what expires, or the quota drops, the receiver hears of
		outbox.WithPublishTimeout(2*time.Second),
		outbox.WithLogger(slog.New(slog.DiscardHandler)))

	// One connection, so one event at a time: alarms are not overtaken on the way.
	cloud := g.mux.Destination("broker", outbox.WithConcurrency(1))
	for _, names := range []string{"sensor.*", "alarm.*", "log.*", "goutbox.*"} {
		if err := cloud.Handle(names, g.broker.publish); err != nil {
			return nil, err
		}
	}
	err = outbox.Handle(g.mux, nameShow, g.show)
	return g, err
}

// show is the display: it is always there.
func (g *gateway) show(_ context.Context, text string, _ outbox.Event) error {
	_, err := fmt.Fprintln(g.display, "  [display]", text)
	return err
}

// deliver publishes until ctx ends.
func (g *gateway) deliver(ctx context.Context) error { return g.outbox.StartMux(ctx, g.mux) }

// close closes the store, when nothing uses the outbox any more.
func (g *gateway) close() error {
	g.broker.close()
	return g.store.Close()
}
