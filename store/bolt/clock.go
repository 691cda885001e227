package bolt

import (
	"context"
	"time"
)

// clock is the time a store works with (P12, R42, R44): due times, leases and
// time-to-live are kept on it, and nothing else is. It never goes back, neither
// while the store is open nor from one run to the next.
//
// While the store is open it runs at the speed of the machine's monotonic clock. A
// wall clock that jumps meanwhile changes nothing. Where the monotonic clock stands
// still while the machine sleeps, as on Linux, so does this one.
//
// How much time has passed since the last run nobody can know; the wall clock is a
// witness, and newClock decides whether to believe it. What the store has seen last
// is a moment: what its own clock and the wall clock showed at one time. Opened
// again,
//
//  1. it shows what the wall clock shows, if that is ahead of its own by half a year
//     at most: the common case, in which both are the same;
//  2. else it has advanced by as much as the wall clock has, if that is half a year
//     at most. So a wall clock that is wrong by decades, but runs, is good enough;
//  3. else the time in between counts as nothing. So it is with a device that boots
//     in 1970, or whose clock was set back or ahead by years.
//
// A device may well be without power for a season; a wall clock that was ahead by
// more than half a year is more likely to be wrong, since years are what is mistyped
// and what a broken battery, an epoch or a rollover is about.
//
// What follows for a task. It never waits longer than its own delay, in time that
// was proven or believed: its due time was computed on a clock that has not gone
// back since. The time that is not believed is missing on both sides: a delay may
// last longer by it, as seen from outside, but no jump makes a task wait for
// decades. And it never expires because the wall clock is behind or has jumped
// (R43): it has lived its time-to-live on the monotonic clock, or in a break of half
// a year at most. What is lost by that: an event with a time-to-live, in a store
// that was closed for longer than half a year, is not dropped at once, but when the
// rest of its time-to-live has passed.
//
// Both clocks are noted with what is written anyway: every accepted event carries
// both, every retry this one, every checkpoint both, and while tasks wait Close writes
// a small record. So a program without a battery for its clock, started every hour and
// closed again, gets to the end of a delay of a day. One that loses power instead, and
// accepts nothing in between, does not: a record every few minutes would help it, but
// an outage writes nothing (P6).
//
// IDs and CreatedAt come from the wall clock, whatever it shows: they are for
// people. IDs rise all the same (id.go). CreatedAt is kept in 64 bits, as
// nanoseconds since 1970: from 1678 to 2262, and a time beyond is kept as the last
// that fits.
type clock struct {
	start time.Time // with its monotonic reading
	base  int64     // Unix nanoseconds at start
}

// moment is what the store's clock and the wall clock showed at one time, in Unix
// nanoseconds. The zero moment is that of a store that has seen nothing.
type moment struct{ clock, wall int64 }

// trusted is the longest break for which the wall clock is believed.
const trusted = int64(365 * 24 * time.Hour / 2)

// Within these bounds the store's clock can be set: so that there is room for
// delays behind, and zero remains free to stand for "never seen" and "never".
const (
	earliest = int64(1)
	latest   = never - int64(50*365*24*time.Hour)
)

// newClock starts a clock that shows at least what the store has seen last.
func newClock(now time.Time, last moment) clock {
	wall := min(max(nanos(now), earliest), latest)
	c := clock{start: time.Now(), base: last.clock}
	switch {
	case last.clock == 0, believable(wall - last.clock):
		c.base = wall
	case believable(wall - last.wall):
		c.base = last.clock + min(wall-last.wall, max(latest-last.clock, 0))
	}
	return c
}

func believable(passed int64) bool { return passed >= 0 && passed <= trusted }

// now returns the time in Unix nanoseconds.
func (c clock) now() int64 { return c.base + min(int64(time.Since(c.start)), never-1-c.base) }

// moment returns what both clocks show. The clock does not change once the store is
// open, so no lock is needed.
func (s *Store) moment() moment {
	return moment{clock: s.clock.now(), wall: min(max(nanos(s.opts.wallClock()), earliest), latest)}
}

// see makes n the last moment seen, unless a later one was.
func (m *moment) see(n moment) {
	if n.clock >= m.clock {
		*m = moment{n.clock, min(max(n.wall, earliest), latest)}
	}
}

// pass notes that the store's clock has shown this time; the wall clock is taken to
// have advanced by as much since the last moment.
func (m *moment) pass(clock int64) {
	if d := clock - m.clock; d > 0 {
		m.clock += d
		m.wall = min(m.wall+d, latest)
	}
}

// nanos returns the time in Unix nanoseconds, or the nearest that can be told so.
// The very lowest is noTime.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s <= -never/int64(time.Second):
		return -never
	case s >= never/int64(time.Second):
		return never
	}
	return t.UnixNano()
}

// noteAge is how old what the disk knows of the time may be when the store is closed
// with tasks that wait.
const noteAge = int64(time.Second)

// noteTime writes the time down, so that a restart on a lying wall clock does not take
// back what has passed.
func (s *Store) noteTime(ctx context.Context) error {
	s.mu.Lock()
	l := s.base
	l.add(s.since, 1)
	due := l.waiting() > 0 && s.clock.now()-s.noted >= noteAge
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.lighten(ctx)
}

// wall returns a time for people.
func wall(nanos int64) time.Time {
	if nanos == noTime {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
