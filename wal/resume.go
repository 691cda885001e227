package wal

import (
	"errors"
	"fmt"
)

// resume is what the first roll after Open does when there is no spare and the device has no room for one: it goes on in
// the newest segment that Open found, as the last run would have done. Without that nothing could be written until there
// is room, and nothing be trimmed either, for the tail would never be vouched for (P9).
//
// The tail is written again where it is, byte for byte, as its pages may be marked clean and not be on the disk (R10), and
// synced. What a torn write has left behind it is made to look unused with it, or it would be taken for a trace of what
// comes there now. A power cut meanwhile finds each sector as it was or as it is going to be, and of the tail that is the
// same; where there is a spare, that is not relied on (see I6).
//
// full is why there is no other segment. It is returned where nothing can be gone on with, and to records of Queue, which
// leave to Write what is left.
func (l *Log) resume(need int64, full error) error {
	t := &l.tail
	if t.name == "" || !errors.Is(full, ErrNoSpace) {
		return full
	}
	f, err := l.fs.Open(l.path(t.name))
	if err != nil {
		return fmt.Errorf("open %s: %w", t.name, err)
	}
	if err := l.renew(f); err != nil {
		return errors.Join(err, f.Close())
	}
	l.onDisk.Store(uint64(l.synced))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = &active{file: f, name: t.name, size: t.head.size, off: t.end, salt: t.head.salt, seed: t.head.seed()}
	l.tail, l.rest = tail{}, 0
	if need > 0 && l.writing.yields {
		return full
	}
	return nil
}

// renew writes and syncs the tail in its place, and zeros over what is torn behind it.
func (l *Log) renew(f File) error {
	t := &l.tail
	b, err := t.read(f, func(*group, []byte) {})
	if err != nil {
		return err
	}
	b = append(b, make([]byte, l.recovery.TornBytes)...)
	if len(b) == 0 {
		return nil
	}
	_, err = f.WriteAt(b, t.off)
	if err == nil {
		err = f.Sync()
	}
	switch {
	case err == nil:
		return nil
	case IsFull(err): // of a file system that copies on write
		return fmt.Errorf("%w: write the end of %s again: %w", ErrNoSpace, t.name, err)
	}
	return fmt.Errorf("write the end of %s again: %w", t.name, err)
}
