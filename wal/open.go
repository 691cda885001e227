package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Open opens the log in a folder, and makes the folder (but not its parents) if it is not there. The caller holds a
// lock on it (R7).
//
// All segments are checked before anything is changed. A torn tail of the newest one is left out and reported by
// Recovery; anything else that is wrong is ErrCorrupt, ErrMismatch or ErrVersion, and the files stay as they are.
// Opening writes nothing, so it works when the device is full: the first commit starts a new segment (R24).
func Open(dir string, opts Options) (*Log, error) {
	opts = opts.withDefaults()
	l := &Log{dir: dir, fs: opts.FS, opts: opts, next: 1, open: &round{}}
	if err := l.openFolder(); err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", dir, err)
	}
	names, err := l.fs.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", dir, err)
	}
	if err := l.readSegments(numbersOf(names, ".wal")); err != nil {
		return nil, err
	}
	if err := l.sweep(names); err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", dir, err)
	}
	l.recovery.Segments = len(l.segments)
	l.recovery.First, l.recovery.Next = l.First(), l.next
	if r := &l.recovery; r.TornBytes > 0 && opts.Logger != nil {
		opts.Logger.Warn("wal: cut a torn tail, which had never become durable", slog.String("file", l.path(r.TornFile)),
			slog.Int64("offset", r.TornOffset), slog.Int64("bytes", r.TornBytes))
	}
	return l, nil
}

// openFolder makes the folder if need be, and syncs it and its parent whether or not it does: the last process may have
// been killed between making an entry and syncing it (R1, R2).
func (l *Log) openFolder() error {
	err := l.fs.Mkdir(l.dir)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	err = l.fs.SyncDir(filepath.Dir(filepath.Clean(l.dir)))
	if !made && errors.Is(err, fs.ErrPermission) {
		return nil // a parent that only others may read: they have made the folder
	}
	return err
}

// numbersOf returns the numbers of the files with this extension, in order. Names that the log does not give are
// none of its business.
func numbersOf(names []string, ext string) []uint64 {
	var numbers []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ext)
		if !ok || len(digits) != 16 {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// readSegments checks all segments and takes over what they hold. It changes no file.
func (l *Log) readSegments(numbers []uint64) error {
	heads := make([]header, len(numbers))
	for i, number := range numbers {
		if number != numbers[0]+uint64(i) {
			return corrupt(segmentName(number-1), 0, "segment is missing")
		}
		s, err := l.openScanner(number)
		if err != nil {
			return err
		}
		heads[i] = s.head
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("wal: close %s: %w", s.name, err)
		}
		l.segments = append(l.segments, segment{number: number, base: s.head.base, size: s.size})
	}
	for i := range heads {
		var err error
		if i+1 < len(heads) {
			err = l.readSealed(&heads[i], &heads[i+1])
		} else {
			err = l.readNewest(&heads[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readSealed checks a segment that has another one after it, whose header says where it must end (R5). What lies behind
// that is not looked at.
func (l *Log) readSealed(head, next *header) error {
	s, err := l.openScanner(head.number)
	if err != nil {
		return err
	}
	defer s.file.Close()
	for s.last+1 < next.base {
		g, _, ok, err := s.next()
		if err != nil {
			return err
		}
		if !ok {
			return corrupt(s.name, s.off, "record %d is damaged or missing, but the next segment begins with record %d",
				s.last+1, next.base)
		}
		l.recovery.Records += uint64(g.records)
	}
	if s.last+1 != next.base || s.chain != next.chain {
		return corrupt(s.name, s.off, "segment does not end where the next one continues, before record %d", next.base)
	}
	return nil
}

// readNewest reads the newest segment up to its end or its torn tail, and notes which of its groups no watermark
// vouches for.
func (l *Log) readNewest(head *header) error {
	s, err := l.openScanner(head.number)
	if err != nil {
		return err
	}
	defer s.file.Close()
	sure := s.head.durable // the highest watermark seen
	ends := []tail{{off: s.off, last: s.last, chain: s.chain}}
	for {
		g, _, ok, err := s.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		l.recovery.Records += uint64(g.records)
		sure = max(sure, g.durable)
		ends = append(ends, tail{off: s.off, last: s.last, chain: s.chain})
		for len(ends) > 1 && ends[1].last <= sure {
			ends = ends[1:]
		}
	}
	torn, err := s.judge()
	if err != nil {
		return err
	}
	if torn > 0 {
		l.recovery.TornBytes, l.recovery.TornFile, l.recovery.TornOffset = torn, s.name, s.off
	}
	l.written, l.synced, l.chain, l.next = s.last, s.last, s.chain, s.last+1
	l.durable.Store(uint64(s.last))
	l.tail = ends[0]
	l.onDisk.Store(uint64(l.tail.last))
	l.tail.name, l.tail.head, l.tail.end = s.name, s.head, s.off
	l.rest = s.size - s.off
	if l.tail.off == l.tail.end {
		return nil
	}
	// The last process may have been killed between writing these groups and syncing them.
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", s.name, err)
	}
	return nil
}

// sweep takes over the spares and removes what is not needed: spares that are too many or of another size, and files
// that the last run had not finished. The name of a spare says that all of it has been written: see makeSpare.
func (l *Log) sweep(names []string) error {
	for _, n := range numbersOf(names, ".tmp") {
		l.nextSpare = max(l.nextSpare, n)
		if err := l.fs.Remove(l.path(unfinishedName(n))); err != nil {
			return err
		}
	}
	for _, n := range numbersOf(names, ".spare") {
		l.nextSpare = max(l.nextSpare, n)
		size, err := l.sizeOf(spareName(n))
		switch {
		case err != nil:
			return err
		case size == l.opts.SegmentBytes && len(l.spares) < l.opts.Spares:
			l.spares = append(l.spares, spareName(n))
		default:
			if err := l.fs.Remove(l.path(spareName(n))); err != nil {
				return err
			}
		}
	}
	l.nextSpare++
	return nil
}

func (l *Log) sizeOf(name string) (int64, error) {
	f, err := l.fs.Open(l.path(name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}
