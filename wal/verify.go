package wal

import "fmt"

// Finding is one thing that is not as it should be in the files of a log.
type Finding struct {
	File   string // name in the folder
	Offset int64  // where in the file it begins

	// The records that are missing because of it, both ends included; 0 and 0 when there are none. Numbers that failed
	// with ErrNoSpace long ago may be among them. When To alone is 0 the end of the log is gone: From and all after it
	// are lost, if there were any.
	From, To Position

	// Torn says that it is what was being written when the last run ended, and had never become durable. That is
	// normal after a crash, and Open leaves it out.
	Torn bool

	Err error // what is wrong: ErrCorrupt, ErrMismatch, ErrVersion; none of them when it is Torn
}

// Report is what Verify or Salvage found.
type Report struct {
	Store    [16]byte // UUID of the store that the log belongs to
	Segments int      // segment files
	Records  uint64   // records that are provably intact
	First    Position // where the log begins: what was before it had been trimmed
	Next     Position // what the next record gets, in this log or in what Salvage makes of it
	Findings []Finding
}

// Damaged reports whether anything but a torn tail was found.
func (r *Report) Damaged() bool {
	for i := range r.Findings {
		if !r.Findings[i].Torn {
			return true
		}
	}
	return false
}

// Verify reads a log that nobody has open and changes nothing. Unlike Open it goes on after damage: every finding is in
// the report, in the order of the log, and each, which may be nil, gets every record that is provably intact, in order. The
// Data is valid until each returns. An error of each ends it and is returned; else an error means that the folder cannot
// be read at all.
//
// Provably intact is a group whose checksum, which covers the salt and the number of its segment, is right, whose
// positions come after those before it, and which Open would have taken or a durable watermark vouches for. After damage
// the segment is searched for the next one, also when the header, and with it the salt, is gone. What is behind a torn
// end is not intact: it was never acknowledged, and its positions may have been given out again.
//
// A log belongs to opts.Store, and a segment of another store is a finding (ErrMismatch). When opts.Store is all zero,
// any store will do: that of the oldest segment whose header is intact. Of the other options only FS matters. Memory is
// bounded by the largest group.
func Verify(dir string, opts Options, each func(Record) error) (Report, error) {
	v := newSurvey(dir, opts)
	if each != nil {
		v.each = func(g *group, payload []byte) error {
			for at := g.first; len(payload) > 0; at++ {
				var data []byte
				data, payload, _ = cutRecord(payload) // the group is intact: its records fill the payload
				if err := each(Record{Position: at, Data: data}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if err := v.run(); err != nil {
		return v.report, fmt.Errorf("wal: verify %s: %w", dir, err)
	}
	return v.report, nil
}
