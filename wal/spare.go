package wal

import (
	"errors"
	"fmt"
)

// readySpares is how many spares Prepare sees to: one for the next callers of Append, so that none of them has to wait
// while it is written full of zeros, and one that stays in reserve. When the device turns out to be full there is a whole
// segment left to Write, and to the first commit after the next Open.
const readySpares = 2

// Prepare makes sure that two spare segments are ready: the next one, and a reserve. It does nothing when they are. Call
// it from the background, after Open and from time to time.
//
// It is also how the log finds out that the device is full, and that it no longer is: it then returns ErrNoSpace, and
// until a later call succeeds Queue leaves about a segment of space to Write.
func (l *Log) Prepare() error {
	l.dirMu.Lock()
	defer l.dirMu.Unlock()
	for {
		l.mu.Lock()
		l.prepared = true
		err, ready := l.usableLocked(), len(l.spares) >= min(readySpares, l.opts.Spares) && !l.full
		l.mu.Unlock()
		if err != nil || ready {
			return err
		}
		name, err := l.makeSpare(l.opts.SegmentBytes)
		if errors.Is(err, ErrNoSpace) {
			if serr := l.makeSmall(); serr != nil {
				return l.poison(serr)
			}
			return err
		}
		switch {
		case err != nil:
			return l.poison(err)
		}
		l.mu.Lock()
		l.spares = append(l.spares, name)
		l.mu.Unlock()
	}
}

// takeSpare returns a file for the leader with room for least bytes, and its size. It makes one if there is none.
//
// If the spare is the last one, and the device is not known to be full, the leader makes the reserve that Prepare has not
// come to make yet: else a burst of records could use up all spares before anybody knows. If the device turns out to be
// full, the records fail and the spare stays, for Write and for the first commit after the next Open.
func (l *Log) takeSpare(least int64) (name string, size int64, err error) {
	size = max(l.opts.SegmentBytes, least)
	if name, last := l.popSpare(size); name != "" {
		if last {
			name, err = l.keepReserve(name)
		}
		return name, size, err
	}
	l.dirMu.Lock() // waits for a Prepare that is at work
	name, last := l.popSpare(size)
	if name == "" {
		if small := l.popSmall(least); small.name != "" {
			l.dirMu.Unlock()
			return small.name, small.size, nil
		}
		name, err = l.makeSpare(size)
		last = size == l.opts.SegmentBytes
	}
	l.dirMu.Unlock()
	if err == nil && last {
		name, err = l.keepReserve(name)
	}
	return name, size, err
}

// keepReserve lets the leader have the last spare, if there is another one or nobody expects one. The first commit after
// Open gets it in any case, see wholeTail, and so do records that all came through Write.
func (l *Log) keepReserve(name string) (string, error) {
	err := l.makeReserve()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || errors.Is(err, ErrNoSpace) && (l.active == nil || !l.writing.yields) {
		return name, nil
	}
	l.spares = append(l.spares, name)
	return "", err
}

// makeReserve makes a spare if the owner wants one ready and there is none. On a device that is known to be full it does
// not try: that may have become known after the records that need a segment now were queued.
func (l *Log) makeReserve() error {
	l.dirMu.Lock()
	defer l.dirMu.Unlock()
	l.mu.Lock()
	wanted, full := l.prepared && len(l.spares) == 0 && l.opts.Spares >= readySpares, l.full
	l.mu.Unlock()
	switch {
	case !wanted:
		return nil
	case full:
		return ErrNoSpace
	}
	name, err := l.makeSpare(l.opts.SegmentBytes)
	if err == nil {
		l.mu.Lock()
		l.spares = append(l.spares, name)
		l.mu.Unlock()
	}
	return err
}

// popSpare returns "" if there is none; last says that none is left.
func (l *Log) popSpare(size int64) (name string, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.spares)
	if n == 0 || size != l.opts.SegmentBytes {
		return "", false
	}
	name = l.spares[n-1]
	l.spares = l.spares[:n-1]
	return name, n == 1
}

// smallSpare is what a full device has room for when there is no spare left: the last part of a device is of no use to
// anybody who wants a whole segment, but a few outcomes fit.
type smallSpare struct {
	name string
	size int64
}

const smallestBytes = 16 << 10

// makeSmall makes one if there is no spare at all, as large as it gets. The caller holds dirMu.
func (l *Log) makeSmall() error {
	l.mu.Lock()
	needed := len(l.spares) == 0 && l.small.name == ""
	l.mu.Unlock()
	for size := l.opts.SegmentBytes / 2; needed && size >= smallestBytes; size /= 2 {
		size = alignUp(size, blockBytes)
		name, err := l.makeSpare(size)
		if err == nil {
			l.mu.Lock()
			l.small, l.full = smallSpare{name, size}, true
			l.mu.Unlock()
			return nil
		}
		if !errors.Is(err, ErrNoSpace) {
			return err
		}
	}
	return nil
}

func (l *Log) popSmall(least int64) (s smallSpare) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.small.size >= least {
		s, l.small = l.small, s
	}
	return s
}

// makeSpare writes a file full of zeros and syncs it, so that it has its blocks and its size for good: a commit then
// finds no device full (R38) and its sync has no metadata to write. Only a complete one gets the name of a spare. The
// caller holds dirMu.
func (l *Log) makeSpare(size int64) (string, error) {
	unfinished, name := unfinishedName(l.nextSpare), spareName(l.nextSpare)
	l.nextSpare++
	err := l.writeZeros(unfinished, size)
	if err == nil {
		if err = l.fs.Rename(l.path(unfinished), l.path(name)); err == nil {
			l.setFull(false)
			return name, nil
		}
	}
	err = fmt.Errorf("make spare segment %s: %w", name, err)
	if !IsFull(err) {
		return "", err
	}
	l.setFull(true)
	_ = l.fs.Remove(l.path(unfinished)) // it may not even be there; what stays, the next Open removes
	return "", fmt.Errorf("%w: %w", ErrNoSpace, err)
}

// writeZeros makes a file of size zeros. fallocate is no substitute: its blocks count as never written, and each
// sync that fills one has to say so in the journal.
func (l *Log) writeZeros(name string, size int64) error {
	f, err := l.fs.Create(l.path(name))
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 256<<10))
	for off := int64(0); err == nil && off < size; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (l *Log) setFull(full bool) {
	l.mu.Lock()
	l.full = full
	l.mu.Unlock()
}
