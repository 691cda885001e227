package bolt

import "time"

// Recovery is what [Open] or [Attach] found and did.
type Recovery struct {
	Records int           // operations in the log that the database did not know
	Took    time.Duration // to read them and to move what waits to the database; 0 without any

	// What was being written when the last run ended, and had never become durable, is
	// cut off the end of the log (R27). TornBytes is 0 when there was nothing.
	TornBytes  int64
	TornFile   string
	TornOffset int64
}

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
