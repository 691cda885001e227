package outbox

import (
	"math/rand/v2"
	"time"
)

// The gate's numbers.
const (
	shutAfter  = 3               // unavailable results in a row, with no success between
	probeFirst = 2 * time.Second // the first probe comes within this time, and not before half of it
	probeMost  = time.Minute     // the longest time between probes
	probeAfter = time.Hour       // the longest that a destination may ask for
)

// gate keeps an outage from costing anything (P6). It counts attempts that could
// not reach the destination; after a few in a row it shuts: nothing is claimed but
// one probe at a time, with growing pauses, until one gets through. While it is
// shut no attempt is spent and nothing is written: claiming and releasing are not.
//
// There is one gate for each dispatcher, which knows one destination. It does no
// locking, starts nothing and reads no clock, so that a dispatcher with several
// destinations can hold several. When it opens again the [ramp] begins.
type gate struct {
	row   int       // unavailable results since the last success
	shut  bool      // since that many in a row
	since time.Time // when it shut

	fails  int       // probes that failed since it shut
	next   time.Time // no probe before
	probe  uint64    // the probe under way; 0 = none
	probes uint64    // probes so far: each has a number of its own

	ramp ramp // of what is claimed while the gate is open
}

// permit says how many of the wanted tasks may be claimed now. With a number, they
// are a probe, which must end in passed, failed, refused or forget. If none may be
// claimed, wait says for how long; Forever means until one of those is called.
func (g *gate) permit(now time.Time, want int) (n int, probe uint64, wait time.Duration) {
	switch {
	case !g.shut:
		n, wait = g.ramp.permit(now, want)
		return n, 0, wait
	case g.probe != 0:
		return 0, 0, Forever
	case now.Before(g.next):
		return 0, 0, g.next.Sub(now)
	}
	g.probes++
	g.probe = g.probes
	return min(want, 1), g.probe, 0
}

// state says how the gate stands.
func (g *gate) state() GateState {
	switch {
	case g.shut:
		return GateShut
	case g.ramp.on:
		return GateRamping
	}
	return GateOpen
}

// forget takes a probe back: there was nothing to claim, or the attempt was cut
// short. The next may follow at once.
func (g *gate) forget(probe uint64) {
	if probe != 0 && probe == g.probe {
		g.probe = 0
	}
}

// passed notes that an event got through, a probe or not. It opens the gate, and
// reports so if it was shut: then the ramp is to begin.
func (g *gate) passed() (opened bool) {
	opened = g.shut
	*g = gate{since: g.since, probes: g.probes, ramp: g.ramp}
	return opened
}

// failed notes an attempt that could not reach the destination. It reports whether
// that has shut the gate. A destination that says itself that it is away, and that it
// wants to be left alone after that long, need not say it three times.
func (g *gate) failed(now time.Time, probe uint64, after time.Duration) (shut bool) {
	g.row++
	var asked time.Time
	if after > 0 {
		asked = now.Add(min(after, probeAfter) + rand.N(probeFirst)) // nor may a fleet come back in step
	}
	switch {
	case !g.shut && g.row < shutAfter && after <= 0:
		return false
	case !g.shut:
		g.shut, g.since, shut = true, now, true
		g.ramp.end()
		g.next = now.Add(probePause(0))
	case probe != 0 && probe == g.probe:
		g.probe = 0
		g.fails++
		g.next = now.Add(probePause(g.fails))
	}
	// Attempts that were under way as it shut come in late, and say nothing else that is new.
	if asked.After(g.next) {
		g.next = asked
	}
	return shut
}

// refused notes an attempt that the destination has answered, but not taken. That
// is no proof that it would take another one, so the gate stays as it is; but there
// is no need to be slow with the next probe.
func (g *gate) refused(now time.Time, probe uint64) {
	if probe != 0 && probe == g.probe {
		g.probe, g.fails = 0, 0
		g.next = now.Add(probePause(0))
	}
}

// wake lets a probe through at once, also beside one that is under way: that may
// hang on a connection that died in the outage.
func (g *gate) wake() {
	g.probe, g.next = 0, time.Time{}
}

// probePause is how long to wait after so many failed probes: doubled each time,
// and somewhere in the upper half, so that a fleet does not come back in step.
func probePause(fails int) time.Duration {
	d := double(probeFirst, probeMost, fails)
	return d/2 + rand.N(d/2)
}
