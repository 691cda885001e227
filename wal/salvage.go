package wal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Salvage makes a damaged log fit for Open again. It keeps every record that is provably intact, as Verify has it, at its
// position; what is lost is a gap, which the report names. The caller holds the lock on the folder (R7) and has nothing
// open in it.
//
// The damaged files stay, under their names with suffix behind, which Open leaves alone. What survives is written into
// fresh segments; old ones without damage are then removed. A log that Open would take, perhaps with a torn tail, is
// left as it is. It is refused with nothing touched when a segment is of a newer format (ErrVersion, R46), when no
// segment is of this store but one is of another (ErrMismatch; see Verify for which store that is), and when there is
// no room (ErrNoSpace; spares are given up for it): it takes as much space again as what survives.
//
// Salvage may be cut short at any moment and called again (R28): no file is set aside or removed before the new segments
// and their names are durable, and until all old ones are gone Open refuses the folder and Salvage finds the same
// records as before. A call that comes after an earlier one was cut short late may no longer name all that is lost.
//
// The next record gets the position after the last one that survives, Report.Next, also where damage took the end of
// the log.
func Salvage(dir string, opts Options, suffix string) (Report, error) {
	v := newSurvey(dir, opts)
	err := v.run()
	if err == nil {
		err = v.refuse()
	}
	if err == nil && (suffix == "" || strings.ContainsAny(suffix, `/\`)) {
		err = fmt.Errorf("%q is no suffix for a file name", suffix)
	}
	if err == nil && v.report.Damaged() {
		err = v.rewrite(suffix)
	}
	if err != nil {
		return v.report, fmt.Errorf("wal: salvage %s: %w", dir, err)
	}
	return v.report, nil
}

// refuse returns why the folder is better left alone.
func (v *survey) refuse() error {
	ours := false
	var foreign error
	for i := range v.pieces {
		p := &v.pieces[i]
		ours = ours || p.salted
		if p.finding == nil {
			continue
		}
		if errors.Is(p.finding.Err, ErrVersion) {
			return p.finding.Err
		}
		if errors.Is(p.finding.Err, ErrMismatch) {
			foreign = p.finding.Err
		}
	}
	if !ours {
		return foreign
	}
	return nil
}

// rewrite makes the new segments and takes the old ones away.
func (v *survey) rewrite(suffix string) error {
	fs, dir := v.log.fs, v.log.dir
	names, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range numbersOf(names, ".tmp") { // of an earlier Salvage, or spares that were not finished
		if err := fs.Remove(v.log.path(unfinishedName(n))); err != nil {
			return err
		}
	}
	old := numbersOf(names, ".wal")
	w, err := v.copyOut(old[len(old)-1] + 1)
	if spares := numbersOf(names, ".spare"); IsFull(err) && len(spares) > 0 { // they hold nothing
		for _, n := range spares {
			if err := fs.Remove(v.log.path(spareName(n))); err != nil {
				return err
			}
		}
		w, err = v.copyOut(old[len(old)-1] + 1)
	}
	switch {
	case IsFull(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case err != nil:
		return err
	}
	// The new first segment does not continue any old one: its chain sees to that. So a folder with only some of
	// the new names, or still some of the old, is never taken for a whole log.
	for _, n := range w.made {
		if err := fs.Rename(v.log.path(unfinishedName(n)), v.log.path(segmentName(n))); err != nil {
			return err
		}
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	// The oldest goes last: it tells where the log begins.
	for _, n := range slices.Backward(old) {
		if err := v.putAside(segmentName(n), suffix, names); err != nil {
			return err
		}
		if err := fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// putAside takes an old segment out of the log: it is kept if there is a finding in it, a torn tail included.
func (v *survey) putAside(name, suffix string, taken []string) error {
	if !slices.ContainsFunc(v.report.Findings, func(f Finding) bool { return f.File == name }) {
		return v.log.fs.Remove(v.log.path(name))
	}
	aside := name + suffix
	for slices.Contains(taken, aside) {
		aside += "+"
	}
	return v.log.fs.Rename(v.log.path(name), v.log.path(aside))
}

// copyOut writes what survives into files that have no name as segments yet, the first to be of this number.
func (v *survey) copyOut(number uint64) (*salvager, error) {
	w := &salvager{log: v.log, store: v.report.Store, number: number}
	if err := w.write(v); err != nil {
		w.discard()
		return nil, err
	}
	return w, nil
}

// salvager writes what survives into segments that have no name as such yet.
type salvager struct {
	log    *Log
	store  [16]byte
	number uint64   // of the next segment
	made   []uint64 // numbers of the segments

	file  File // the segment being written, nil before the first
	head  header
	off   int64
	last  Position
	chain uint32
}

// write walks the log once more and copies what is intact.
func (w *salvager) write(from *survey) error {
	again := newSurvey(w.log.dir, w.log.opts)
	again.each = w.group
	w.last = from.report.First - 1
	if from.report.Records == 0 {
		w.last = from.report.Next - 1 // an empty log may begin anywhere
	}
	w.chain = uint32(newSalt()) | 1
	if err := again.run(); err != nil {
		return err
	}
	if w.file == nil {
		if err := w.begin(0); err != nil {
			return err
		}
	}
	return w.end()
}

// group copies a group: the same records, sealed anew.
func (w *salvager) group(g *group, payload []byte) error {
	if w.file == nil || w.off+g.size() > w.head.size {
		if w.file != nil {
			if err := w.end(); err != nil {
				return err
			}
		}
		if err := w.begin(g.size()); err != nil {
			return err
		}
	}
	b := make([]byte, g.size())
	copy(b[groupBytes:], payload)
	// All before it is synced before anybody finds the new segments, so the watermark may say so.
	copied := group{payload: g.payload, records: g.records, first: g.first, prev: w.last, durable: w.last, chain: w.chain}
	crc := copied.seal(b, w.head.salt, w.head.seed())
	if _, err := w.file.WriteAt(b, w.off); err != nil {
		return fmt.Errorf("write segment %d at offset %d: %w", w.head.number, w.off, err)
	}
	w.off += g.size()
	w.last, w.chain = g.last(), crc
	return nil
}

// begin makes a segment with room for a group of need bytes.
func (w *salvager) begin(need int64) error {
	size := max(w.log.opts.SegmentBytes, alignUp(blockBytes+need, blockBytes))
	w.head = header{store: w.store, number: w.number, base: w.last + 1, salt: newSalt(), size: size, chain: w.chain}
	name := unfinishedName(w.number)
	w.made = append(w.made, w.number)
	w.number++
	// All blocks are written before the first group is (R38).
	if err := w.log.writeZeros(name, size); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	f, err := w.log.fs.Open(w.log.path(name))
	if err != nil {
		return err
	}
	w.file, w.off = f, blockBytes
	return nil
}

// end writes the header of the segment, which vouches for all that is in it, and syncs.
func (w *salvager) end() error {
	w.head.durable = w.last
	block := make([]byte, headerBytes)
	w.head.encode(block)
	_, err := w.file.WriteAt(block, 0)
	if err == nil {
		err = w.file.Sync()
	}
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	w.file = nil
	if err != nil {
		return fmt.Errorf("write segment %d: %w", w.head.number, err)
	}
	return nil
}

// discard takes away what was made for nothing. What stays, the next Open or Salvage removes.
func (w *salvager) discard() {
	if w.file != nil {
		_ = w.file.Close()
	}
	for _, n := range w.made {
		_ = w.log.fs.Remove(w.log.path(unfinishedName(n)))
	}
}
