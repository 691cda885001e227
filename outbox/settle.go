package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// settleTimeout bounds one call of Settle: it is detached from the caller's
	// context, so that a stop does not lose what is known.
	settleTimeout = 30 * time.Second
	// lastTries is how often a store that fails is asked again when the dispatcher is
	// about to return.
	lastTries = 3
)

// settle hands outcomes to the store. ErrLeaseLost comes back, and is no harm.
func (o *Outbox) settle(ctx context.Context, outs []Outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return o.store.Settle(ctx, outs)
}

// settleLate settles outside of a dispatcher. The events are safe, so a store that
// fails now is no more than logged: they are published again when the lease has run
// out, or the store is reopened.
func (o *Outbox) settleLate(ctx context.Context, outs []Outcome) {
	if err := o.settle(ctx, outs); err != nil && !errors.Is(err, ErrLeaseLost) {
		o.log.LogAttrs(ctx, slog.LevelWarn, "outbox: cannot settle, will be published again",
			slog.String("id", outs[0].ID.String()), slog.Int("events", len(outs)), slog.String("error", err.Error()))
	}
}

// bookLocked gives outcomes to the settler.
func (d *dispatcher) bookLocked(outs ...Outcome) {
	d.outcomes = append(d.outcomes, outs...)
	d.unsettled += len(outs)
	d.settling.Signal()
}

// settle is the settler's life: whatever was booked during one call of the store
// goes with the next (P3: the store makes it durable within moments).
func (d *dispatcher) settle() {
	defer close(d.done)
	var batch []Outcome
	for {
		d.mu.Lock()
		for len(d.outcomes) == 0 && !d.closing {
			d.settling.Wait()
		}
		batch, d.outcomes = d.outcomes, batch[:0]
		frees := d.frees
		d.frees = false
		d.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if err := d.settleBatch(batch); err != nil {
			d.mu.Lock()
			d.failed = err
			d.mu.Unlock()
			d.wake()
			return
		}
		if frees {
			d.nudge() // before the books say settled, or a drain would end too early
			d.o.changed()
		}
		if d.drain {
			d.total.add(batch)
		}
		d.mu.Lock()
		d.unsettled -= len(batch)
		wake := d.hungry || d.drain
		d.mu.Unlock()
		if wake {
			d.wake()
		}
		clear(batch) // error texts
	}
}

// settleBatch settles, again and again if the store fails in a way that may pass.
func (d *dispatcher) settleBatch(batch []Outcome) error {
	last := 0
	for failures := 0; ; failures++ {
		err := d.o.settle(d.ctx, batch)
		well := err == nil || errors.Is(err, ErrLeaseLost)
		d.mu.Lock()
		if d.settleErr = err; well {
			d.settleErr = nil
		}
		d.mu.Unlock()
		if well {
			return nil // if lost, it was published by two, and settled once
		}
		quit, pause := d.quit, storePause(failures)
		if d.drain || d.stopped() {
			quit, pause = nil, storePause(0)
			last++
		}
		if last == lastTries || final(err) {
			return fmt.Errorf("outbox: settle %d outcomes: %w", len(batch), err)
		}
		d.conf.log.LogAttrs(d.ctx, slog.LevelWarn, "outbox: cannot settle, will try again",
			slog.String("error", err.Error()), slog.Int("outcomes", len(batch)), slog.Duration("delay", pause))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-quit:
			timer.Stop()
		}
	}
}
