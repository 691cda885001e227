package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// state is what a sensor reports.
type state struct {
	Sensor int `json:"sensor"`
	Round  int `json:"round"`
	Value  int `json:"value"`
}

// alarm is raised when a value is too high.
type alarm struct {
	Number int `json:"number"`
	Sensor int `json:"sensor"`
}

// sense has all sensors report, round after round, until ctx ends.
func (g *gateway) sense(ctx context.Context) error {
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	for round := 1; ; round++ {
		if err := g.round(ctx, round); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// reporters is how many sensors report at the same moment. Each of them waits for its
// value to be on the disk; they share the syncs.
const reporters = 64

// round has each sensor report once, then raises an alarm and writes a line to the log.
func (g *gateway) round(ctx context.Context, round int) error {
	sensors := make(chan int)
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range reporters {
		all.Go(func() {
			for s := range sensors {
				if err := g.report(ctx, s, round); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	for s := range g.sensors {
		sensors <- s
	}
	close(sensors)
	all.Wait()
	if failed != nil {
		return fmt.Errorf("round %d: %w", round, failed)
	}
	if err := g.raise(ctx, alarm{Number: round, Sensor: round % g.sensors}); err != nil {
		return err
	}
	if err := g.note(ctx, round); err != nil {
		return err
	}
	_, err := g.outbox.Enqueue(ctx, nameShow, fmt.Sprintf("round %d: %d sensors", round, g.sensors))
	return err
}

// report accepts the state of a sensor. It takes the place of the one that waits.
func (g *gateway) report(ctx context.Context, sensor, round int) error {
	_, err := g.outbox.Enqueue(ctx, nameState, state{sensor, round, round * sensor % 97},
		outbox.WithLatestOnly(fmt.Sprint("sensor ", sensor)))
	return err
}

// raise accepts an alarm. The key keeps alarms in order, the class gets them out first.
func (g *gateway) raise(ctx context.Context, a alarm) error {
	_, err := g.outbox.Enqueue(ctx, nameAlarm, a, outbox.WithPriority(outbox.High), outbox.WithKey("alarms"))
	return err
}

// linesPerRound log lines of half a kilobyte come with each round.
const linesPerRound = 200

// note accepts log lines, with one sync for all of them. They leave last, and not at all
// when they are too old by then.
func (g *gateway) note(ctx context.Context, round int) error {
	events := make([]outbox.Event, linesPerRound)
	for i := range events {
		number := (round-1)*linesPerRound + i
		events[i] = outbox.Event{
			Name: nameLog, ContentType: "application/json",
			Payload: fmt.Appendf(nil, `{"number":%d,"text":%q}`, number, strings.Repeat("all is well. ", 40)),
		}
	}
	_, err := g.outbox.EnqueueBatch(ctx, events, outbox.WithPriority(outbox.Low), outbox.WithTTL(g.logLife))
	return err
}
