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
		err, ready := l.usableLocked(), len(l.spares) >= min(readySpares, l.opts.Spares) && !l.full
		l.mu.Unlock()
		if err != nil || ready {
			return err
		}
		name, err := l.makeSpare(l.opts.SegmentBytes)
		switch {
		case errors.Is(err, ErrNoSpace):
			return err
		case err != nil:
			return l.poison(err)
		}
		l.mu.Lock()
		l.spares = append(l.spares, name)
		l.mu.Unlock()
	}
}

// takeSpare returns the file name of a spare of this size for the leader, who makes one if there is none.
func (l *Log) takeSpare(size int64) (string, error) {
	if name, ok := l.popSpare(size); ok {
		return name, nil
	}
	l.dirMu.Lock() // waits for a Prepare that is at work
	defer l.dirMu.Unlock()
	if name, ok := l.popSpare(size); ok {
		return name, nil
	}
	return l.makeSpare(size)
}

func (l *Log) popSpare(size int64) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.spares)
	if n == 0 || size != l.opts.SegmentBytes {
		return "", false
	}
	name := l.spares[n-1]
	l.spares = l.spares[:n-1]
	return name, true
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
