package wal

import (
	"errors"
	"fmt"
)

// survey walks all groups of a log that may be damaged, for Verify and Salvage. What Open would refuse is noted, and the
// walk goes on behind it.
type survey struct {
	log    *Log // for its folder and options; it is never opened
	any    bool // any store will do, as long as none is decided on
	each   func(g *group, payload []byte) error
	report Report
	pieces []piece // in the order of the log

	last    Position // the newest record that was met, or is known to have been trimmed
	known   Position // every position up to it was durable, as far as any header or group tells
	chain   uint32   // CRC of the group that ends at last
	waiting int      // the finding that the next hole belongs to, -1 for none
	endless bool     // nothing tells where the log ended
}

// piece is a segment file, or a run of missing ones, before its groups are read.
type piece struct {
	name    string
	number  uint64
	head    header // read from the file, or put together from its groups
	whole   bool   // the header is intact
	cut     bool   // the file is shorter than the header says
	salted  bool   // head.salt is known: the groups can be told
	based   bool   // head.base and head.chain are known
	finding *Finding
}

func newSurvey(dir string, opts Options) *survey {
	opts = opts.withDefaults()
	return &survey{
		log: &Log{dir: dir, fs: opts.FS, opts: opts}, any: opts.Store == [16]byte{},
		report: Report{Store: opts.Store}, waiting: -1,
	}
}

// run reads the headers, then the groups.
func (v *survey) run() error {
	names, err := v.log.fs.ReadDir(v.log.dir)
	if err != nil {
		return err
	}
	if err := v.readHeads(numbersOf(names, ".wal")); err != nil {
		return err
	}
	for i := range v.pieces {
		p := &v.pieces[i]
		if p.finding != nil {
			v.found(*p.finding, true)
		}
		if !p.salted {
			v.report.First = max(v.report.First, 1)
			v.endless = v.endless || i == len(v.pieces)-1 && !errors.Is(p.finding.Err, ErrMismatch)
			continue
		}
		if err := v.readPiece(i); err != nil {
			return err
		}
	}
	v.finish()
	return nil
}

// found notes a finding. wants says that it may be why records are missing.
func (v *survey) found(f Finding, wants bool) {
	v.report.Findings = append(v.report.Findings, f)
	if wants && v.waiting < 0 {
		v.waiting = len(v.report.Findings) - 1
	}
}

// hole notes that the records after last are missing, up to this one. They belong to the first finding since the
// records were complete.
func (v *survey) hole(to Position) {
	if to <= v.last {
		v.waiting = -1
		return
	}
	f := &v.report.Findings[v.waiting]
	f.From, f.To = v.last+1, to
	v.last, v.waiting = to, -1
}

// missing makes sure that there is a finding that a hole can belong to.
func (v *survey) missing(name string, off int64, lost Position) {
	if v.waiting < 0 {
		v.found(Finding{File: name, Offset: off, Err: corrupt(name, off, "record %d is damaged or missing", lost)}, true)
	}
}

// finish deals with what is missing at the end of the log, and sums up.
func (v *survey) finish() {
	r := &v.report
	end := v.last
	switch {
	case v.known > v.last:
		v.missing(v.pieces[len(v.pieces)-1].name, 0, v.last+1)
		v.hole(v.known)
	case v.endless && v.waiting >= 0:
		r.Findings[v.waiting].From = v.last + 1
	}
	r.Next = end + 1
	if r.Records == 0 {
		r.Next = v.last + 1 // nothing is in the way of leaving a gap
	}
	if r.First == 0 {
		r.First = r.Next
	}
}

// readPiece walks the groups of piece i.
func (v *survey) readPiece(i int) error {
	p := &v.pieces[i]
	f, err := v.open(p.name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := &scanner{window: window{file: f, name: p.name, size: p.head.size}, head: p.head, seed: p.head.seed(), off: blockBytes}
	w := walk{survey: v, scanner: s, newest: i == len(v.pieces)-1}
	if i+1 < len(v.pieces) && p.sealedBy(&v.pieces[i+1]) {
		next := &v.pieces[i+1].head
		w.limit, w.seal = next.base, next.chain
	}
	v.begin(p)
	if w.limit == 0 {
		if err := w.vouch(); err != nil {
			return err
		}
	}
	if err := w.groups(p); err != nil {
		return err
	}
	if f.err != nil {
		err := fmt.Errorf("%w: %w", corrupt(p.name, f.off, "cannot be read"), f.err)
		v.found(Finding{File: p.name, Offset: f.off, Err: err}, false)
	}
	return nil
}

// sealedBy reports whether the next piece says where this one ends. One that begins before this one does not, nor one
// that begins in the same place with another history: that is what Salvage leaves when it is cut short.
func (p *piece) sealedBy(next *piece) bool {
	if !next.based || !p.based {
		return next.based
	}
	a, b := &p.head, &next.head
	return b.base > a.base || b.base == a.base && b.chain == a.chain
}

// begin compares where a piece begins with where the one before it ended.
func (v *survey) begin(p *piece) {
	if !p.based {
		v.report.First = max(v.report.First, 1) // nothing tells; less is not possible
		return
	}
	if v.report.First == 0 {
		v.report.First, v.last = p.head.base, p.head.base-1
	}
	switch {
	case p.head.base > v.last+1:
		v.missing(p.name, 0, v.last+1)
		v.hole(p.head.base - 1)
	case p.head.base <= v.last:
		err := corrupt(p.name, 0, "segment begins with record %d, which an earlier one has", p.head.base)
		v.found(Finding{File: p.name, Err: err}, false)
	}
	v.chain = p.head.chain
	if p.whole {
		v.known = max(v.known, p.head.durable)
	}
}
