package outbox

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// GateState says how attempts at a destination go.
type GateState uint8

const (
	GateOpen    GateState = iota // they go
	GateRamping                  // an outage is over, and they go again, at a rate that grows
	GateShut                     // an outage: nothing goes but one probe at a time (P6)
)

// String returns the word used in logs.
func (s GateState) String() string {
	switch s {
	case GateOpen:
		return "open"
	case GateRamping:
		return "ramping"
	case GateShut:
		return "shut"
	}
	return "unknown"
}

// DestinationStats is what became of the attempts at one destination since [New]. It is
// kept in memory: a restart begins anew, and other outboxes on the store count for
// themselves. A batch counts as many attempts as it has events. An attempt is counted
// when the publisher has answered, so a moment before the store knows.
type DestinationStats struct {
	Name string // as in the [Mux]; "" is that of Start, StartBatch, Drain and Do

	Delivered   uint64 // attempts that the destination has taken
	Refused     uint64 // attempts that it has answered and not taken: refused, or permanent
	Unavailable uint64 // attempts that could not reach it
	Dead        uint64 // of those refused, the ones that have ended as dead letters
	InFlight    uint64 // events that its publishers have now, those given up included

	Running       int       // how many Start, StartBatch and Drain publish to it now
	Gate          GateState // the worst of theirs
	ShutSince     time.Time // wall clock, if Gate is GateShut; else zero
	LastDelivered time.Time // wall clock; zero = never
	LastError     string    // of the last attempt that failed, at most [MaxErrorBytes]; "" = none has
	LastErrorAt   time.Time // wall clock
}

// destination counts what goes to one place. It outlives the dispatchers: those of one
// name count together, one after another and side by side.
type destination struct {
	name     string
	unlisted bool      // nowhere: that of what nobody handles
	began    time.Time // of the outbox; what trying and lastOK count from

	delivered, refused, unavailable, dead atomic.Uint64
	inFlight                              atomic.Int64
	row                                   atomic.Int64 // attempts that failed since the last delivery
	strays                                atomic.Int64 // publishers that were given up and have not come back

	// In nanoseconds since began, by the monotonic clock (P12); 0 = never.
	trying atomic.Int64 // when the first attempt began since the last delivery
	lastOK atomic.Int64 // when the last delivery was

	mu      sync.Mutex // guards what follows
	lastErr string
	errAt   time.Time
}

// destination returns the one of that name.
func (o *Outbox) destination(name string) *destination {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.destinations[name]
	if t == nil {
		t = &destination{name: name, began: o.began}
		o.destinations[name] = t
	}
	return t
}

// begins counts n events that a publisher is given.
func (t *destination) begins(n int, now time.Time) {
	t.inFlight.Add(int64(n))
	if t.trying.Load() == 0 {
		t.trying.CompareAndSwap(0, int64(now.Sub(t.began)))
	}
}

// ends counts n events that a publisher has handed back.
func (t *destination) ends(n int) { t.inFlight.Add(int64(-n)) }

// took counts n events that were delivered.
func (t *destination) took(n int) {
	if n == 0 {
		return
	}
	t.delivered.Add(uint64(n))
	t.lastOK.Store(int64(time.Since(t.began)))
	if t.trying.Load() != 0 {
		t.trying.Store(0)
	}
	if t.row.Load() != 0 {
		t.row.Store(0)
	}
}

// failed counts an attempt of one event that was not delivered.
func (t *destination) failed(r result, v Verdict) {
	switch r.class {
	case refused, permanent:
		t.refused.Add(1)
	case unavailable:
		t.unavailable.Add(1)
	default: // the stop's doing, not the destination's
		return
	}
	if v == Bury {
		t.dead.Add(1)
	}
	t.row.Add(1)
	t.mu.Lock()
	t.lastErr, t.errAt = r.text, time.Now()
	t.mu.Unlock()
}

// stats reads the counters.
func (t *destination) stats() DestinationStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := DestinationStats{
		Name:        t.name,
		Delivered:   t.delivered.Load(),
		Refused:     t.refused.Load(),
		Unavailable: t.unavailable.Load(),
		Dead:        t.dead.Load(),
		InFlight:    uint64(max(t.inFlight.Load(), 0)),
		LastError:   t.lastErr,
	}
	if at := t.lastOK.Load(); at != 0 {
		st.LastDelivered = onWall(t.began.Add(time.Duration(at)))
	}
	if !t.errAt.IsZero() {
		st.LastErrorAt = onWall(t.errAt)
	}
	return st
}

// onWall returns what the wall clock, as it is set now, calls that moment. A device
// that has learned the time since says so of what was before, too (P12).
func onWall(at time.Time) time.Time {
	now := time.Now()
	return now.Add(-now.Sub(at)).Round(0).UTC()
}

// Destinations tells of each place that events go to, ordered by name: what
// [Outbox.Stats] cannot, since a store knows nothing of it. It asks no store and does
// not block.
func (o *Outbox) Destinations() []DestinationStats {
	o.mu.Lock()
	all := make([]DestinationStats, 0, len(o.destinations))
	for _, t := range o.destinations {
		all = append(all, t.stats())
	}
	o.mu.Unlock()
	slices.SortFunc(all, func(a, b DestinationStats) int { return cmp.Compare(a.Name, b.Name) })
	for _, d := range o.running.Load().all {
		i := slices.IndexFunc(all, func(st DestinationStats) bool { return st.Name == d.dest.name })
		if i < 0 || d.dest.unlisted {
			continue // it has come since
		}
		st := &all[i]
		st.Running++
		d.mu.Lock()
		state, since := d.gate.state(), d.gate.since
		d.mu.Unlock()
		st.Gate = max(st.Gate, state)
		if at := onWall(since); state == GateShut && (st.ShutSince.IsZero() || at.Before(st.ShutSince)) {
			st.ShutSince = at
		}
	}
	return all
}
