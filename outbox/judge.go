package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// How long an event waits that has met an outage. It is short: the gate, not the
// event, decides when the destination is tried again.
const (
	// releaseDelay applies while the gate is open, and in Do: it keeps the first few
	// failures of an outage, or those of one destination among several, from coming
	// round in a hurry.
	releaseDelay = time.Second
	// rotateDelay applies to a failed probe: due after all that are due already, so
	// that the next probe is another event; due at once when the link is back.
	rotateDelay = time.Millisecond
)

// outcome says what becomes of a task after an attempt. Its Attempts are those
// before.
func (c *config) outcome(t *Task, r result) Outcome {
	out := Outcome{ID: t.ID, Token: t.Token}
	switch r.class {
	case delivered:
		out.Verdict = Done
		return out
	case cut:
		out.Verdict = Release
		return out
	case unavailable:
		out.Verdict, out.Delay = Release, releaseDelay/2+rand.N(releaseDelay/2)
		return out
	}
	n := t.Attempts + 1
	if r.class == unhandled {
		n--
	}
	out.Failure = Failure{At: time.Now().Round(0).UTC(), Attempt: n, Error: r.text}
	switch {
	case r.class == unhandled:
		out.Verdict, out.Reason = Bury, ReasonUnhandled
	case r.class == permanent:
		out.Verdict, out.Reason = Bury, ReasonPermanent
	case n >= t.MaxAttempts && (t.Key == "" || t.KeyPolicy != BlockKey):
		out.Verdict, out.Reason = Bury, ReasonExhausted
	case r.after > 0:
		out.Verdict, out.Delay = Retry, min(r.after, maxWait)
	default:
		out.Verdict, out.Delay = Retry, c.pause(t, n)
	}
	return out
}

// report logs what became of an attempt, in one line: at Error when the event has
// died, at Warn when the publisher has panicked, else at Debug.
func (c *config) report(ctx context.Context, t *Task, r result, out Outcome) {
	level, msg := slog.LevelDebug, ""
	panicked, _ := r.err.(*panicError)
	if panicked != nil {
		level = slog.LevelWarn
	}
	switch out.Verdict {
	case Done:
		msg = "outbox: event delivered"
	case Retry:
		msg = "outbox: event refused, will retry"
		if out.Failure.Attempt == t.MaxAttempts { // by outcome, under BlockKey only; and never again
			level, msg = slog.LevelError, "outbox: attempts are used up, the key waits for this event"
		}
	case Release:
		msg = "outbox: event released"
	case Bury:
		level, msg = slog.LevelError, "outbox: event is dead"
	}
	if !c.log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 8), slog.String("id", t.ID.String()), slog.String("event", t.Name))
	if level == slog.LevelError && t.Key != "" {
		attrs = append(attrs, slog.String("key", t.Key))
	}
	if out.Verdict == Retry || out.Verdict == Bury {
		attrs = append(attrs, slog.Int("attempt", out.Failure.Attempt))
	}
	if out.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(out.Reason)))
	}
	if out.Delay > 0 {
		attrs = append(attrs, slog.Duration("delay", out.Delay))
	}
	if r.text != "" {
		attrs = append(attrs, slog.String("error", r.text))
	}
	if panicked != nil {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	c.log.LogAttrs(ctx, level, msg, attrs...)
}

// result reads the error of an event of the attempt, knowing what went on meanwhile.
// beside: one behind it in the same call got through.
func (d *dispatcher) result(a *attempt, id ID, err error, beside bool) result {
	r := classify(err)
	switch {
	case d.stopped() && r.ended && r.class != permanent:
		// The publisher watches the context that was to stop Start, or its time ran
		// out after that. Who knows what would have come of it.
		r.class = cut
	case r.class == delivered:
		d.blame.passes(id)
	case r.class == unavailable:
		r.alone = d.passed.Load() != a.passed
		if d.blame.fails(id, r.alone) || beside {
			r.class = refused
		}
	}
	return r
}

// judge decides what becomes of each event of an attempt, reports it, and sums up.
func (d *dispatcher) judge(a *attempt, errs []error, outs []Outcome) ([]Outcome, summary) {
	var s summary
	last := -1 // that was delivered: what failed behind it may have met a link that broke
	for i, err := range errs {
		if err == nil {
			s.delivered++
			last = i
		}
	}
	d.passed.Add(uint64(s.delivered)) // first: within a batch, too, others may get through
	d.dest.took(s.delivered)
	var took time.Duration
	if len(d.o.observers) > 0 {
		took = a.took()
	}
	for i := range a.tasks {
		t := &a.tasks[i]
		r := d.result(a, t.ID, errs[i], i < last)
		if d.holdBack(t, r, took) {
			continue
		}
		switch {
		case r.class == refused || r.class == permanent:
			s.refused = true
		case r.class == unavailable && !r.alone:
			if s.down == nil {
				s.down = r.err
			}
			s.after = max(s.after, r.after)
		}
		out := d.decide(t, r, a.probe != 0, took)
		s.frees = s.frees || out.Verdict != Done || t.Key != "" || t.Name == GapName
		outs = append(outs, out)
	}
	return outs, s
}

// decide decides what becomes of one event, counts and reports it.
func (d *dispatcher) decide(t *Task, r result, probe bool, took time.Duration) Outcome {
	out := d.conf.outcome(t, r)
	switch {
	case r.class != unavailable:
	case d.drain && (!r.alone || d.stopped()):
		out.Delay = 0 // it ends now; whoever comes next must find the event due
	case r.alone && r.after > 0: // no gate sees to it
		out.Delay = min(r.after, probeAfter)
	case probe:
		out.Delay = rotateDelay
	}
	if out.Verdict != Done {
		d.dest.failed(r, out.Verdict)
	}
	d.conf.report(d.ctx, t, r, out)
	if len(d.o.observers) > 0 {
		d.o.attempted(r.attempt(t, out, d.dest.name, took))
	}
	return out
}

// noteLocked draws the conclusions of an attempt for those to come.
func (d *dispatcher) noteLocked(probe uint64, s summary) (n *news) {
	d.frees = d.frees || s.frees
	switch {
	case s.delivered > 0:
		if d.gate.passed() {
			d.gate.ramp.begin(time.Now())
			n = &news{outage: time.Since(d.gate.since), state: d.gate.state()}
			d.wake()
		}
	case s.down != nil:
		if d.outage == nil {
			d.outage = s.down
		}
		if d.gate.failed(time.Now(), probe, s.after) {
			d.blame.outage()
			n = &news{down: s.down, state: GateShut}
		}
		if d.outLocked() {
			d.releaseQueueLocked() // each of them could cost a publish timeout
		}
	case s.refused:
		d.gate.refused(time.Now(), probe)
	default:
		d.gate.forget(probe)
	}
	if probe != 0 || d.drain {
		d.wake()
	}
	return n
}

// news is what the log is to be told when the lock is free again.
type news struct {
	down   error         // the gate has shut, because of this
	outage time.Duration // else: it has opened, after so long
	state  GateState
}

// tell reports the beginning and the end of an outage. A drain returns it instead of
// logging it.
func (d *dispatcher) tell(n *news) {
	if n == nil {
		return
	}
	d.o.gated(d.dest.name, n)
	if d.drain {
		return
	}
	level, msg, attr := slog.LevelInfo, "outbox: destination available again", slog.Duration("after", n.outage)
	if n.down != nil {
		level, msg = slog.LevelWarn, "outbox: destination unavailable, waiting and probing"
		attr = slog.String("error", classify(n.down).text)
	}
	attrs := []slog.Attr{attr}
	if d.dest.name != "" {
		attrs = append(attrs, slog.String("destination", d.dest.name))
	}
	d.conf.log.LogAttrs(d.ctx, level, msg, attrs...)
}
