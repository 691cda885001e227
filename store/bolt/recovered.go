package bolt

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Recovery is what [Open] or [Attach] found and did (R27): also in [outbox.Stats].
type Recovery = outbox.Recovery

// Recovery returns what opening the store found: nothing after a clean close, unless
// the disk was full then. What was cut off has also been logged.
func (s *Store) Recovery() Recovery {
	found := s.log.Recovery()
	return Recovery{
		Records: s.recovered.records, Took: s.recovered.took,
		TornBytes: found.TornBytes, TornFile: found.TornFile, TornOffset: found.TornOffset,
	}
}

// recovered is what recovery counts for [Store.Recovery].
type recovered struct {
	records int
	took    time.Duration
}
