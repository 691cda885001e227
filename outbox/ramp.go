package outbox

import (
	"math"
	"time"
)

// Defaults of WithRamp.
const (
	defaultRampRate     = 100
	defaultRampDoubling = time.Second
)

// WithRamp says how a backlog flows when an outage has ended: rate events per second at
// first, twice that after each doubling time, until that is no limit any more; from 100
// per second, doubled every second, by default. A destination that has just come back is
// then not run over by all that has waited for it, from all who have waited: so a
// hundred thousand events take ten seconds. What comes after a start, or while there
// was no outage, is not slowed down. [NoRamp] switches it off.
func WithRamp(rate float64, doubling time.Duration) Option {
	return func(c *config) { c.ramp = ramp{rate: rate, doubling: doubling} }
}

// NoRamp lets everything flow at once when an outage has ended.
func NoRamp() Option {
	return func(c *config) { c.ramp = ramp{rate: math.Inf(1)} }
}

const (
	// rampStep is how much the ramp lets through at a time, so that claims are not made
	// one task at a time when it is steep.
	rampStep = 20 * time.Millisecond
	// rampTop is a rate per second that limits nobody.
	rampTop = 1e7
)

// ramp limits what is claimed after an outage. It is a bucket that fills at a growing
// rate and holds little, so that a pause does not save up for a rush. Like the [gate] it
// does no locking and reads no clock.
type ramp struct {
	rate     float64 // events per second at first
	doubling time.Duration

	on    bool
	began time.Time
	seen  time.Time // when it was last asked, or began
	held  time.Time // when it last held something back, or began
	level float64   // events that may be claimed
	most  int       // that it permitted when it was last asked, if more were wanted; else 0
}

// withDefaults fills in what is open.
func (r ramp) withDefaults() ramp {
	if !(r.rate > 0) { // also if it is no number
		r.rate = defaultRampRate
	}
	r.doubling = positive(r.doubling, defaultRampDoubling)
	return r
}

// begin starts the ramp, whether or not something waits already, end ends it.
func (r *ramp) begin(now time.Time) {
	*r = ramp{rate: r.rate, doubling: r.doubling, on: r.rate < rampTop, began: now, seen: now, held: now, level: 1}
}
func (r *ramp) end() { r.on = false }

// permit says how many of the wanted tasks may be claimed now, and if none, how long
// until some may. What is claimed is to be reported to took.
func (r *ramp) permit(now time.Time, want int) (n int, wait time.Duration) {
	if !r.on {
		return want, 0
	}
	rate := r.rate * math.Exp2(float64(now.Sub(r.began))/float64(r.doubling))
	if rate >= rampTop || now.Sub(r.held) > r.doubling {
		r.on = false // it limits nobody, or has limited nobody for a while
		return want, 0
	}
	step := max(rate*rampStep.Seconds(), 1)
	// A little too much, for the rate was lower before, but within a step that is nothing.
	r.level = min(r.level+rate*now.Sub(r.seen).Seconds(), 2*step)
	r.seen, r.most = now, 0
	if need := min(float64(want), step); r.level < need {
		r.held = now
		// As if the rate stayed: so ask again when it has doubled.
		return 0, min(time.Duration((need-r.level)/rate*float64(time.Second))+1, r.doubling)
	}
	if n = int(r.level); n >= want {
		return want, 0
	}
	r.most = n
	return n, 0
}

// took notes that n tasks were claimed after permit.
func (r *ramp) took(n int) {
	if !r.on {
		return
	}
	r.level -= float64(n)
	if n > 0 && n == r.most { // and more were wanted
		r.held = r.seen
	}
}
