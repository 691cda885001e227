package wal

import (
	"bytes"
	"fmt"
)

// windowBytes is how much of a segment is read at a time.
const windowBytes = 256 << 10

// window reads a file in large pieces.
type window struct {
	file File
	name string
	size int64 // of the file
	off  int64 // where buf begins in the file
	buf  []byte
}

// at returns n bytes at off, both within the file. They are valid until the next call.
func (w *window) at(off, n int64) ([]byte, error) {
	if off < w.off || off+n > w.off+int64(len(w.buf)) {
		want := min(max(n, windowBytes), w.size-off)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.off = w.buf[:want], off
		if err := readFull(w.file, w.name, w.buf, off); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	off -= w.off
	return w.buf[off : off+n], nil
}

// readFull fills b from the named file. A ReaderAt may report the end of the file along with the last bytes.
func readFull(f File, name string, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("wal: read %s at offset %d: %w", name, off, err)
	}
	return nil
}

// scanner walks the groups of a segment in order.
type scanner struct {
	window
	head  header
	seed  uint32
	off   int64    // where the next group begins
	last  Position // the last record before off
	chain uint32   // CRC of the group before off
}

// openScanner opens a segment, checks its header against name, store and size, and stands before its first group.
func (l *Log) openScanner(number uint64) (*scanner, error) {
	name := segmentName(number)
	f, err := l.fs.Open(l.path(name))
	if err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", name, err)
	}
	s := &scanner{window: window{file: f, name: name}, off: blockBytes}
	if err := s.readHeader(number, l.opts.Store); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *scanner) readHeader(number uint64, store [16]byte) (err error) {
	if s.size, err = s.file.Size(); err != nil {
		return fmt.Errorf("wal: size of %s: %w", s.name, err)
	}
	if s.size < blockBytes {
		return corrupt(s.name, s.size, "file ends within the segment header")
	}
	var b [headerBytes]byte
	if err := readFull(s.file, s.name, b[:], 0); err != nil {
		return err
	}
	if s.head, err = decodeHeader(b[:], s.name); err != nil {
		return err
	}
	switch {
	case s.head.store != store:
		return fmt.Errorf("%w: %s belongs to store %x, not to %x", ErrMismatch, s.name, s.head.store, store)
	case s.head.number != number:
		return corrupt(s.name, 0, "header says segment %d", s.head.number)
	case s.head.size != s.size:
		return corrupt(s.name, s.size, "header says that the file has %d bytes", s.head.size)
	}
	s.seed, s.last, s.chain = s.head.seed(), s.head.base-1, s.head.chain
	return nil
}

// next reads the group at off and goes on to the one after it. The payload is valid until the next call. It reports
// false, and stays, when there is no valid group that follows the one before.
func (s *scanner) next() (g group, payload []byte, ok bool, err error) {
	g, b, ok, err := s.group(s.off)
	if !ok || err != nil || g.prev != s.last || g.chain != s.chain {
		return g, nil, false, err
	}
	s.off += g.size()
	s.last, s.chain = g.last(), g.crc
	return g, b[groupBytes:], true, nil
}

// group reads whatever group is at off, with its header.
func (s *scanner) group(off int64) (g group, b []byte, ok bool, err error) {
	room := s.size - off
	if room < groupBytes {
		return g, nil, false, nil
	}
	if b, err = s.at(off, groupBytes); err != nil {
		return g, nil, false, err
	}
	if g, ok = decodeGroup(b, s.head.salt, room); !ok {
		return g, nil, false, nil
	}
	if b, err = s.at(off, groupBytes+int64(g.payload)); err != nil {
		return g, nil, false, err
	}
	return g, b, g.intact(b, s.seed), nil
}

// judge decides what it means that the groups end at off in the newest segment. Either they were damaged there: then a
// durable watermark, in the header or in a group further on, says that more had been synced, and the error is
// ErrCorrupt (R20, R22). Or the last write was cut short: then torn is how far traces of it reach, 0 if there are none.
// Bytes of an earlier use of the file have another salt and are no trace (R21).
func (s *scanner) judge() (torn int64, err error) {
	lost := s.last + 1
	if s.head.durable >= lost {
		return 0, corrupt(s.name, s.off, "record %d is damaged or missing, but had become durable", lost)
	}
	end := s.off
	for off := s.off; ; off += groupAlign {
		if off, err = s.findTag(off); err != nil || off < 0 {
			return end - s.off, err
		}
		g, _, ok, err := s.group(off)
		if err != nil {
			return 0, err
		}
		if ok && g.durable >= lost {
			return 0, corrupt(s.name, s.off, "record %d is damaged or missing, but had become durable before the group at offset %d",
				lost, off)
		}
		end = max(end, off+groupAlign)
		if ok {
			end = max(end, off+g.size())
		}
	}
}

// findTag returns where the next group may begin, at off or after it: at a multiple of groupAlign that has the salt. It
// returns -1 if there is none.
func (s *scanner) findTag(off int64) (int64, error) {
	tag := le.AppendUint64(nil, s.head.salt)
	for off+groupAlign <= s.size {
		b, err := s.at(off, min(windowBytes, s.size-off))
		if err != nil {
			return 0, err
		}
		for i := 0; i < len(b); i++ {
			next := bytes.Index(b[i:], tag)
			if next < 0 {
				break
			}
			if i += next; i%groupAlign == 0 {
				return off + int64(i), nil
			}
		}
		off += windowBytes // a multiple of groupAlign, so no tag lies across
	}
	return -1, nil
}
