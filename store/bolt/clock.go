package bolt

import "time"

// clock is the time a store works with: due times, leases and time-to-live are
// kept on it. It starts at the wall clock, or at the highest time the store has
// ever seen if that is later, and then runs at the speed of the monotonic clock
// (P12, R42, R44). So it never goes back, not even between runs, and a wall clock
// that jumps while the process lives changes nothing. What that means for a
// device that boots in 1970: the time it was switched off counts as zero, and
// whatever waited goes on waiting for what was left of its own delay, never
// longer.
type clock struct {
	start time.Time // with its monotonic reading
	base  int64     // Unix nanoseconds at start
}

// newClock starts a clock that shows at least seen, in Unix nanoseconds.
func newClock(wall time.Time, seen int64) clock {
	return clock{start: time.Now(), base: max(wall.UnixNano(), seen)}
}

// now returns the time in Unix nanoseconds.
func (c clock) now() int64 { return c.base + int64(time.Since(c.start)) }
