package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// How the story goes: rounds of reports, before, during and after the outage.
const (
	roundsBefore = 2
	roundsDuring = 25
	roundsAfter  = 2
)

// playStory runs the gateway with a broker that goes away for a while.
func playStory(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "goutbox-gateway-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := newBroker()
	if err != nil {
		return err
	}
	defer b.leave()
	g, err := openGateway(config{dir: dir, broker: b.address, sensors: 1000, display: io.Discard, logLife: 2 * time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	address, endHealth, err := g.serveHealth("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer endHealth()

	running, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- g.deliver(running) }()
	s := story{ctx: ctx, out: out, g: g, b: b, health: "http://" + address + "/health"}
	err = s.play()
	stop()
	return errors.Join(err, <-stopped)
}

type story struct {
	ctx    context.Context
	out    io.Writer
	g      *gateway
	b      *broker
	health string
	round  int
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *story) play() error {
	s.say("A thousand sensors report, and the broker is there.")
	if err := s.rounds(roundsBefore); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.say("  health: %s", s.ask())

	s.say("The uplink is gone. The sensors report %d times more, with alarms and log lines.", roundsDuring)
	s.b.leave()
	if err := s.rounds(roundsDuring); err != nil {
		return err
	}
	if err := s.down(); err != nil {
		return err
	}
	if err := s.outlive(); err != nil {
		return err
	}

	s.say("The uplink is back.")
	if err := s.b.come(); err != nil {
		return err
	}
	s.g.outbox.Wake() // a modem says so; without it the next probe finds out
	if err := s.rounds(roundsAfter); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.say("  health: %s", s.ask())
	return s.check()
}

// rounds has the sensors report.
func (s *story) rounds(n int) error {
	for range n {
		s.round++
		if err := s.g.round(s.ctx, s.round); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until nothing is left to deliver.
func (s *story) settle() error {
	for {
		st, err := s.g.outbox.Stats(s.ctx)
		if err != nil || st.Pending+st.InFlight == 0 {
			return err
		}
		if err := s.pause(); err != nil {
			return fmt.Errorf("%d events still wait: %w", st.Pending+st.InFlight, err)
		}
	}
}

// down shows how things are in the outage.
func (s *story) down() error {
	for s.ask() == "ok" { // until the third attempt has failed
		if err := s.pause(); err != nil {
			return err
		}
	}
	s.say("  health: %s", s.ask())
	st, err := s.g.outbox.Stats(s.ctx)
	if err != nil {
		return err
	}
	s.say("  %d events wait in %d KiB, %d of them alarms; %d older states were replaced",
		st.Pending, st.PendingBytes>>10, st.PendingByPriority.High, st.DroppedBy.Coalesced)
	states := 0
	for task, err := range s.g.outbox.Tasks(s.ctx, outbox.Filter{Name: nameState}) {
		if err != nil {
			return err
		}
		if task.Attempts != 0 {
			return fmt.Errorf("the outage has cost %s an attempt", task.ID)
		}
		states++
	}
	if states > s.g.sensors {
		return fmt.Errorf("%d states wait of %d sensors", states, s.g.sensors)
	}
	return nil
}

// outlive waits until the log lines of the outage are too old.
func (s *story) outlive() error {
	s.say("  (it lasts: the log lines are too old by now)")
	select {
	case <-time.After(s.g.logLife):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *story) pause() error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// ask asks the health endpoint.
func (s *story) ask() string {
	resp, err := http.Get(s.health)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text[:max(len(text)-1, 0)])
}

// check compares the broker's books with what was accepted.
func (s *story) check() (err error) {
	st, err := s.g.outbox.Stats(s.ctx)
	if err != nil {
		return err
	}
	s.b.look(func(k *books) {
		missing := uint64(0)
		for _, gap := range k.gaps {
			missing += gap.Count
		}
		s.say("The broker has the last value of %d sensors, %d alarms, %d log lines;", len(k.states), len(k.alarms), k.lines)
		s.say("%d gap markers tell it that %d events will not come. Twice came %d.", len(k.gaps), missing, k.twice)
		last := 0
		for _, round := range k.states {
			if round == s.round {
				last++
			}
		}
		alarms := slices.IndexFunc(k.order, func(topic string) bool { return topic == nameAlarm })
		lines := slices.Index(k.order, nameLog)
		switch {
		case last != s.g.sensors:
			err = fmt.Errorf("only %d sensors are up to date", last)
		case k.stale > 0:
			err = fmt.Errorf("%d states came in the wrong order", k.stale)
		case !slices.IsSorted(k.alarms) || len(k.alarms) != s.round:
			err = fmt.Errorf("alarms %v, not 1 to %d in order", k.alarms, s.round)
		case alarms < 0 || lines >= 0 && lines < alarms:
			err = errors.New("log lines came before alarms")
		case missing == 0 || missing != st.DroppedBy.Quota+st.DroppedBy.Expired:
			err = fmt.Errorf("the gap markers tell of %d events, dropped were %d", missing, st.DroppedBy.Quota+st.DroppedBy.Expired)
		case uint64(k.lines)+missing != uint64(s.round*linesPerRound):
			err = fmt.Errorf("%d log lines and %d missing are not %d", k.lines, missing, s.round*linesPerRound)
		case st.Dead > 0:
			err = fmt.Errorf("%d dead letters", st.Dead)
		}
	})
	return err
}
