package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stuckAfter is how long events may be tried and none get through, or wait while nothing
// publishes, before Health says so.
const stuckAfter = 5 * time.Minute

// WithMaxAge sets how old the oldest event that waits may be before [Outbox.Health] says
// [ErrStale]; by default there is no bound. Set it higher than the longest [WithDelay].
// The age is that of the wall clock: an event that was accepted in 1970, by a device
// that has learned the time since, is old (P12).
func WithMaxAge(d time.Duration) Option {
	return func(c *config) { c.maxAge = d }
}

// Health tells whether events flow: nil, or an error that says what is wrong, all of it.
// It is for the health endpoint of a program that publishes: a program that only accepts
// hears of events that nothing publishes. It costs what [Outbox.Stats] does, and changes
// nothing.
//
// What the error Is:
//
//   - [ErrPoisoned], [ErrClosed], [ErrCorrupt]: the store does not work any more;
//   - [ErrDiskFull], [ErrFull]: the store accepts nothing for now, and publishes (P9);
//   - [ErrUnavailable]: a destination is away, which one and since when (P6);
//   - [ErrStuck]: for five minutes, or two publish timeouts, what was tried did not get
//     through (three attempts at least, or publishers that hang), or events wait, due or
//     not, and nothing publishes;
//   - [ErrStale]: the oldest event that waits is older than [WithMaxAge] allows;
//   - any other error with which the store has refused to be claimed from, or to settle.
//
// A paused outbox is healthy, unless it is so for too long for WithMaxAge: then the error
// is [ErrPaused] too. Dead letters are no matter of health: see [Observer].
func (o *Outbox) Health(ctx context.Context) error {
	st, err := o.store.Stats(ctx)
	if err != nil {
		return fmt.Errorf("outbox: store: %w", err)
	}
	ills := []error{st.NoRoom}
	running := o.running.Load().all
	for _, d := range running {
		d.mu.Lock()
		ills = append(ills, d.claimErr, d.settleErr)
		d.mu.Unlock()
	}
	waits := st.Pending+st.InFlight > 0
	for _, t := range o.Destinations() {
		switch {
		case o.Paused():
		case t.Gate == GateShut:
			ills = append(ills, fmt.Errorf("%w: destination %q, since %s: %s", ErrUnavailable, t.Name, t.ShutSince.Format(time.RFC3339), t.LastError))
		case t.Running > 0 && waits:
			ills = append(ills, o.destination(t.Name).stuck(o.patience(running), t))
		}
	}
	if idle := time.Since(o.began) - time.Duration(o.ranLast.Load()); len(running) == 0 && st.Pending > 0 && !o.Paused() && idle > stuckAfter {
		ills = append(ills, fmt.Errorf("%w: %d events wait, and for %s no Start has run", ErrStuck, st.Pending, idle.Round(time.Second)))
	}
	if age := time.Since(st.OldestPending); o.maxAge > 0 && st.Pending > 0 && age > o.maxAge {
		ills = append(ills, fmt.Errorf("%w: the oldest event has waited for %s, the limit is %s", ErrStale, age.Round(10*time.Millisecond), o.maxAge))
		if o.Paused() {
			ills = append(ills, fmt.Errorf("%w: nothing is published until Resume", ErrPaused))
		}
	}
	return errors.Join(ills...)
}

// patience is how long it may take until something gets through.
func (o *Outbox) patience(running []*dispatcher) time.Duration {
	most := stuckAfter
	for _, d := range running {
		most = max(most, 2*min(d.conf.publishTimeout, MaxLease))
	}
	return most
}

// stuck says why nothing gets through to a destination that is tried, or nil.
func (t *destination) stuck(patience time.Duration, st DestinationStats) error {
	trying := time.Duration(t.trying.Load())
	if trying == 0 {
		return nil
	}
	tried := time.Since(t.began) - trying
	fails, hang := t.row.Load(), t.strays.Load()
	t.mu.Lock()
	quiet := time.Since(t.errAt) > patience // nothing was tried since: what waits is not due
	t.mu.Unlock()
	if tried <= patience || hang == 0 && (fails < shutAfter || quiet) {
		return nil
	}
	return fmt.Errorf("%w: destination %q: tried for %s, %d attempts failed and %d publishers hang: %s",
		ErrStuck, t.name, tried.Round(time.Second), fails, hang, st.LastError)
}
