package outbox

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Backoff says how long a refused event waits: after attempt 1, 2, and so on. It
// must be safe for concurrent use; a pure function is. Zero and negative results
// mean at once.
type Backoff func(attempt int) time.Duration

// defaultBackoff is the backoff of those who have said nothing.
var defaultBackoff = ExponentialBackoff(defaultBackoffBase, defaultBackoffMax)

// backoffOf returns the backoff of a task: its own, or that of the outbox.
func (c *config) backoffOf(t *Task) Backoff {
	if t.RetryBase > 0 {
		return ExponentialBackoff(t.RetryBase, t.RetryMax)
	}
	return c.backoff
}

// pause is how long a task waits after attempt n. The backoff is the application's code:
// one that panics is logged, and the default takes its place.
func (c *config) pause(t *Task, n int) (d time.Duration) {
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("outbox: the backoff panicked, using the default", "attempt", n, "panic", v)
			d = defaultBackoff(n)
		}
	}()
	return min(max(c.backoffOf(t)(n), 0), maxWait)
}

// ExponentialBackoff waits for a random time of at most base after the first
// attempt, twice that after the second, and so on up to max ("full jitter": what
// failed together must not come back together). A base that is not positive is 1
// second, a max below the base is the base.
func ExponentialBackoff(base, max time.Duration) Backoff {
	base = positive(base, defaultBackoffBase)
	return func(attempt int) time.Duration {
		if attempt < 1 {
			attempt = 1
		}
		return 1 + rand.N(double(base, max, attempt-1))
	}
}

// double returns base doubled n times, but not more than most, and base at least.
func double(base, most time.Duration, n int) time.Duration {
	d := base
	for ; n > 0 && d < most; n-- {
		if d > most/2 { // twice d would pass most, and may pass 63 bits
			return most
		}
		d *= 2
	}
	return d
}

// Schedule waits for the given times: the first after attempt 1, the second after
// attempt 2, and so on; the last one stays. Without any it is the default backoff.
func Schedule(waits ...time.Duration) Backoff {
	if len(waits) == 0 {
		return defaultBackoff
	}
	waits = slices.Clone(waits)
	return func(attempt int) time.Duration {
		return waits[min(max(attempt, 1), len(waits))-1]
	}
}
