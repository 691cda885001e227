package wal

import "time"

// Recovery is what Open found.
type Recovery struct {
	Segments int      // segment files
	Records  uint64   // records in them
	First    Position // of the first record that is present; Next if there is none
	Next     Position // what the next record gets

	// A torn tail is what was being written when the last run ended. It had never become durable, so it is left out
	// (R27). TornBytes is 0 when there was none.
	TornBytes  int64
	TornFile   string
	TornOffset int64
}

// Recovery returns what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// Stats is what a log has done since Open, and what it holds now.
type Stats struct {
	Syncs   uint64 // syncs of groups; those of files and folders being made are not counted
	Groups  uint64 // groups written
	Records uint64 // records in them
	Bytes   uint64 // written for them, with the headers

	Unsynced    uint64        // written since the last sync; 0 unless the log is lazy, or writing
	LastRecords uint64        // records of the last sync
	LastSync    time.Duration // how long it took
	SlowestSync time.Duration

	Segments  int   // files with records, or for them
	Spares    int   // files ready to become one
	HeldBytes int64 // size of both
	Queued    int   // bytes in memory that wait for a sync
	Full      bool  // the device had no room for another spare: see Prepare
}

// Stats returns what the log has done and holds.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Segments, s.Spares = len(l.segments), len(l.spares)
	s.HeldBytes = int64(len(l.spares))*l.opts.SegmentBytes + l.small.size
	for i := range l.segments {
		s.HeldBytes += l.segments[i].size
	}
	s.Queued = len(l.open.buf)
	if l.writing != nil {
		s.Queued += len(l.writing.buf)
	}
	s.Full = l.full
	return s
}

// wrote counts groups that were written.
func (s *Stats) wrote(groups int, records uint64, bytes int64) {
	s.Groups += uint64(groups)
	s.Records += records
	s.Bytes += uint64(bytes)
	s.Unsynced += records
}

// synced counts one sync.
func (s *Stats) synced(took time.Duration) {
	s.Syncs++
	s.LastRecords, s.LastSync, s.Unsynced = s.Unsynced, took, 0
	s.SlowestSync = max(s.SlowestSync, took)
}
