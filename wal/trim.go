package wal

import "fmt"

// Trim frees the segments that have only records before this position: the caller has them safe elsewhere, and never asks
// for them again. The newest segment always stays, so the log remembers its position. Up to Options.Spares files are
// kept to be written again, the others are removed. A segment that an iteration of Replay is in stays, with all after it.
//
// Trim is durable when it returns. When it is cut short by a crash some of the segments are still there, and First tells
// which; trimming again is always right (R6). Appending goes on meanwhile.
func (l *Log) Trim(before Position) error {
	for {
		if more, err := l.trimOldest(before); err != nil || !more {
			return err
		}
	}
}

// Trims reports whether Trim would free a segment.
func (l *Log) Trims(before Position) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trimsLocked(before)
}

func (l *Log) trimsLocked(before Position) bool {
	return len(l.segments) > 1 && l.segments[1].base <= before && l.segments[0].readers == 0
}

// trimOldest frees one segment, if it can go. The lock is given back after each: a leader may be waiting for a spare.
func (l *Log) trimOldest(before Position) (more bool, err error) {
	l.dirMu.Lock()
	defer l.dirMu.Unlock()
	s, recycle, err := l.detachOldest(before)
	if err != nil || s == nil {
		return false, err
	}
	return true, l.free(s, recycle)
}

// detachOldest takes the oldest segment off the list, if it can go. recycle says that it is to become a spare.
func (l *Log) detachOldest(before Position) (s *segment, recycle bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return nil, false, err
	}
	if !l.trimsLocked(before) {
		return nil, false, nil
	}
	oldest := l.segments[0]
	l.segments = append([]segment(nil), l.segments[1:]...)
	return &oldest, oldest.size == l.opts.SegmentBytes && len(l.spares) < l.opts.Spares, nil
}

// free takes away the file of a segment. The folder is synced after each: were two at stake in a crash, the older might
// come back without the newer, and the gap would look like a lost segment. And a spare that might get its old name
// back must not be written to: name and header would disagree.
func (l *Log) free(s *segment, recycle bool) error {
	name, spare := s.name(), ""
	var err error
	if recycle {
		spare = spareName(l.nextSpare)
		l.nextSpare++
		err = l.fs.Rename(l.path(name), l.path(spare))
	} else {
		err = l.fs.Remove(l.path(name))
	}
	if err != nil {
		l.mu.Lock()
		l.segments = append([]segment{*s}, l.segments...)
		l.mu.Unlock()
		return fmt.Errorf("trim %s: %w", name, err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return l.poison(fmt.Errorf("sync folder without %s: %w", name, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if recycle {
		l.spares = append(l.spares, spare)
	} else {
		l.full = false // there may be room again: the next one who needs some finds out
	}
	return nil
}
