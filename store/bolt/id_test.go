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

// What is believed of the wall clock between two runs (P12, R42, R43).
func TestNewClock(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	for what, c := range map[string]struct {
		wall time.Time
		last moment
		want int64
	}{
		"fresh":                             {now, moment{}, at(0)},
		"fresh, before 1970":                {now.AddDate(-80, 0, 0), moment{}, earliest},
		"fresh, before time can be told":    {time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), moment{}, earliest},
		"fresh, in the year 12000":          {now.AddDate(10000, 0, 0), moment{}, latest},
		"an hour later":                     {now, moment{at(-time.Hour), at(-time.Hour)}, at(0)},
		"half a year later":                 {now, moment{at(-182 * day), at(-182 * day)}, at(0)},
		"a year later":                      {now, moment{at(-year), at(-year)}, at(-year)},
		"50 years later":                    {now.AddDate(50, 0, 0), moment{at(0), at(0)}, at(0)},
		"an hour earlier":                   {now, moment{at(time.Hour), at(time.Hour)}, at(time.Hour)},
		"in 1970":                           {time.Unix(5, 0), moment{at(0), at(0)}, at(0)},
		"before 1970":                       {time.Unix(-5e8, 0), moment{at(0), at(0)}, at(0)},
		"wrong by decades, an hour later":   {now, moment{at(50 * year), at(-time.Hour)}, at(50*year + time.Hour)},
		"wrong by decades, an hour earlier": {now, moment{at(50 * year), at(time.Hour)}, at(50 * year)},
		"behind, and then set right":        {now, moment{at(-40 * year), at(-40 * year)}, at(-40 * year)},
		"drifted":                           {now, moment{at(-time.Hour), at(-time.Minute)}, at(0)},
		"at the end of time":                {now.AddDate(10000, 0, 0), moment{latest, latest}, latest},
		"beyond the end of time":            {now, moment{never - 5, at(-time.Hour)}, never - 5},
	} {
		c2 := newClock(c.wall, c.last)
		require.Equal(t, c.want, c2.base, what)
		require.GreaterOrEqual(t, c2.now(), c2.base, what)
	}
}
