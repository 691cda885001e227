package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// readHeads makes the list of pieces.
func (v *survey) readHeads(numbers []uint64) error {
	v.report.Segments = len(numbers)
	for i, number := range numbers {
		if i > 0 && number > numbers[i-1]+1 {
			gone := piece{name: segmentName(numbers[i-1] + 1), number: numbers[i-1] + 1}
			why := "segment is missing"
			if n := number - numbers[i-1] - 1; n > 1 {
				why = fmt.Sprintf("%d segments are missing, up to %s", n, segmentName(number-1))
			}
			gone.finding = &Finding{File: gone.name, Err: corrupt(gone.name, 0, "%s", why)}
			v.pieces = append(v.pieces, gone)
		}
		p, err := v.readHead(number)
		if err != nil {
			return err
		}
		v.pieces = append(v.pieces, p)
	}
	// Files that were swapped go where their headers say.
	slices.SortStableFunc(v.pieces, func(a, b piece) int {
		return int(min(max(int64(a.number-b.number), -1), 1))
	})
	return nil
}

// readHead reads the header of a segment, or puts one together from its groups.
func (v *survey) readHead(number uint64) (piece, error) {
	p := piece{name: segmentName(number), number: number}
	f, err := v.open(p.name)
	if err != nil {
		return p, err
	}
	defer f.Close()
	s := &scanner{window: window{file: f, name: p.name}, off: blockBytes}
	err = s.readHeader(number, v.report.Store)
	if v.any && s.head.salt != 0 { // the oldest that is intact decides
		v.any, v.report.Store = false, s.head.store
		err = s.readHeader(number, v.report.Store)
	}
	p.head = s.head
	switch {
	case err == nil:
		p.whole, p.salted, p.based = true, true, true
		return p, nil
	case errors.Is(err, ErrVersion), errors.Is(err, ErrMismatch):
		p.finding = &Finding{File: p.name, Err: err}
		return p, nil
	case !errors.Is(err, ErrCorrupt):
		return p, err
	}
	p.finding = &Finding{File: p.name, Err: err}
	err = nil
	switch {
	case s.head.salt == 0: // no header
		err = p.guess(s)
	case s.head.number != number: // under the name of another
		p.number = s.head.number
		p.whole, p.salted, p.based = true, true, true
	default: // of another size
		p.finding.Offset, p.cut = s.size, s.size < s.head.size
		p.whole, p.salted, p.based = true, true, true
	}
	p.head.size = s.size
	return p, err
}

// guess finds out what the header has said from the groups: each carries the salt, and is only intact with the right one.
func (p *piece) guess(s *scanner) error {
	budget := 16*s.size + 64<<20 // bytes to check, so that no file can take for ever
	for off := int64(blockBytes); off+groupBytes <= s.size && budget > 0; off += groupAlign {
		b, err := s.at(off, groupBytes)
		if err != nil {
			return err
		}
		h := header{number: p.number, salt: le.Uint64(b), size: s.size}
		g, ok := decodeGroup(b, h.salt, s.size-off)
		if !ok || h.salt == 0 {
			continue
		}
		budget -= g.size()
		if b, err = s.at(off, groupBytes+int64(g.payload)); err != nil {
			return err
		}
		if !g.intact(b, h.seed()) {
			continue
		}
		if off == blockBytes {
			h.base, h.chain, p.based = g.prev+1, g.chain, true
		}
		p.head, p.salted = h, true
		return nil
	}
	return nil
}

// open opens a file for reading only, such that it can be read in spite of bad places.
func (v *survey) open(name string) (*patientFile, error) {
	open := v.log.fs.Open
	if reader, ok := v.log.fs.(interface{ openRead(string) (File, error) }); ok {
		open = reader.openRead
	}
	f, err := open(v.log.path(name))
	if err != nil {
		return nil, err
	}
	return &patientFile{File: f, off: -1}, nil
}

// patientFile reads blocks that cannot be read as zeros, and remembers the first: bad places of a device have the size
// of a block or more, and the rest of the file is fine.
type patientFile struct {
	File
	off int64 // of the first bad block
	err error
}

func (f *patientFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if n == len(b) || err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	for at := off; at < off+int64(len(b)); {
		block := b[at-off : min(alignUp(at+1, blockBytes)-off, int64(len(b)))]
		if n, err := f.File.ReadAt(block, at); n < len(block) {
			clear(block)
			if f.err == nil {
				f.off, f.err = at, err
			}
		}
		at += int64(len(block))
	}
	return len(b), nil
}
