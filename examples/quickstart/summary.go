package main

import (
	"context"
	"fmt"
	"io"

	"github.com/goutbox/goutbox/outbox"
)

// shownDead is how many dead letters are printed.
const shownDead = 5

// summary is what a run has done: the difference between the store's counters at its
// end and at its beginning.
type summary struct {
	line          int // the last line of the input that is safe
	before, after outbox.Stats
	letters       []outbox.Task // some of the dead
}

// begin notes where the run begins, and says so if an earlier one has left something.
func (s *summary) begin(ctx context.Context, ob *outbox.Outbox, out io.Writer) (err error) {
	if s.before, err = ob.Stats(ctx); err != nil {
		return err
	}
	s.after = s.before
	if s.before.Pending > 0 {
		fmt.Fprintln(out, "waiting", s.before.Pending, "from an earlier run")
	}
	return nil
}

// end notes where it ends. It is called after an interrupt, too.
func (s *summary) end(ob *outbox.Outbox) error {
	ctx := context.Background()
	after, err := ob.Stats(ctx)
	if err != nil {
		return err
	}
	if s.after = after; s.dead() == 0 {
		return nil
	}
	for task, err := range ob.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}, Limit: shownDead}) {
		if err != nil {
			return err
		}
		s.letters = append(s.letters, task)
	}
	return nil
}

// dead is how many have become dead letters in this run.
func (s *summary) dead() uint64 { return s.after.Dead - s.before.Dead }

func (s *summary) print(out io.Writer, dir string, complete bool) {
	fmt.Fprintf(out, "%d orders accepted, %d delivered\n",
		s.after.Accepted-s.before.Accepted, s.after.Delivered-s.before.Delivered)
	if s.after.Dead > 0 {
		fmt.Fprintf(out, "%d dead letters are kept in %s, %d of them new\n", s.after.Dead, dir, s.dead())
	}
	for _, t := range s.letters {
		fmt.Fprintf(out, "  %s, %s", t.ID, t.Reason)
		if n := len(t.Failures); n > 0 {
			fmt.Fprintf(out, ": %s", t.Failures[n-1].Error)
		}
		fmt.Fprintln(out)
	}
	if shown := uint64(len(s.letters)); 0 < shown && shown < s.after.Dead {
		fmt.Fprintf(out, "  and %d more\n", s.after.Dead-shown)
	}
	if n := s.after.Pending + s.after.InFlight; n > 0 {
		fmt.Fprintf(out, "%d orders wait in %s\n", n, dir)
	}
	if !complete {
		fmt.Fprintf(out, "to go on, give the same command again with -skip %d\n", s.line)
	}
}
