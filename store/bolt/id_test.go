package bolt

// White box: a clock cannot be set from outside.

import (
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// IDs rise whatever the clock does: stands still, goes back 50 years, goes ahead
// 50 years and back again, ends (P4, P12).
func TestIDs(t *testing.T) {
	const year = uint64(365 * 24 * time.Hour / time.Millisecond)
	now := uint64(time.Now().UnixMilli())
	g := newIDs(outbox.ID{})
	var last outbox.ID
	for _, ms := range []uint64{now, now, now + 1, now - 50*year, 0, now + 2, now + 50*year, now, ulid.MaxTime(), now, 1 << 63} {
		for range 1000 {
			id := g.next(ms)
			require.Positive(t, id.Compare(last))
			last = id
		}
	}
	require.Positive(t, newIDs(last).next(0).Compare(last), "nor after a restart")

	full := outbox.ID{}
	for i := range full[6:] {
		full[6+i] = 0xff
	}
	require.Positive(t, newIDs(full).next(0).Compare(full), "a millisecond may overflow into the next")
}

// The store's clock starts where it left off if the wall clock is behind.
func TestClock(t *testing.T) {
	later := time.Now().Add(time.Hour).UnixNano()
	c := newClock(time.Now(), moment{later, later})
	require.GreaterOrEqual(t, c.now(), later)
	require.Less(t, c.now(), later+int64(time.Minute))
	require.InDelta(t, time.Now().UnixNano(), newClock(time.Now(), moment{}).now(), float64(time.Minute))
}
