package wal

import (
	"crypto/rand"
	"fmt"
)

// tail is the last part of the newest segment that Open found: groups that are valid but that no later group vouches
// for. roll writes them again.
type tail struct {
	name     string
	head     header
	off, end int64
	last     Position // the last record before off
	chain    uint32   // CRC of the group before off
}

// roll makes the next segment the active one, with room for a group of need bytes.
//
// Its header names the position before which everything is durable, and the last group before: it is the seal of the
// segment before it, whose rest is never looked at again. So the header may only be found under its name when it is
// complete: it is written and synced in a spare, then the spare is renamed, then the folder is synced (R1, R2).
//
// The first roll after Open also writes the tail again, that is the groups of the last run that may never have been
// synced, or whose sync has failed: then the pages in memory are fine and the disk is not, and syncing once more
// would not help (R10). They become durable together with the header, before the segment gets its name.
//
// What a lazy log has written and not synced is synced before anything else (I5).
func (l *Log) roll(need int64) error {
	if err := l.syncActive(); err != nil {
		return err
	}
	h := header{
		store:   l.opts.Store,
		base:    l.written + 1,
		durable: l.synced,
		salt:    newSalt(),
		chain:   l.chain,
	}
	l.mu.Lock()
	if n := len(l.segments); n > 0 {
		h.number = l.segments[n-1].number
	}
	l.mu.Unlock()
	h.number++

	block := make([]byte, blockBytes)
	chain := l.chain
	if l.tail.end > l.tail.off {
		groups, err := l.copyTail(&h, &chain)
		if err != nil {
			return err
		}
		block = append(block, groups...)
	}
	spare, size, err := l.takeSpare(alignUp(int64(len(block))+need, blockBytes))
	if err != nil {
		return l.resume(need, err)
	}
	h.size = size
	replaces := l.lastOnFull() && l.wholeTail(need, h.size)
	if replaces {
		h.number = l.tail.head.number
		groups, err := l.copyTail(&h, &chain)
		if err != nil {
			return err
		}
		block = append(block[:blockBytes], groups...)
	}
	h.encode(block)
	next, err := l.promote(spare, &h, block)
	if err != nil {
		return err
	}
	old := l.active
	l.chain, l.tail = chain, tail{}
	l.onDisk.Store(uint64(l.synced))
	l.mu.Lock()
	l.active, l.rest = next, 0
	if replaces {
		l.segments = l.segments[: len(l.segments)-1 : len(l.segments)-1]
	}
	l.segments = append(l.segments, segment{number: h.number, base: h.base, size: h.size})
	l.mu.Unlock()
	if old != nil {
		if err := old.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", old.name, err)
		}
	}
	return nil
}

// lastOnFull reports whether the spare that was just taken was the last one, and the device is full.
func (l *Log) lastOnFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.segments)
	return l.full && len(l.spares) == 0 && n > 0 && l.segments[n-1].readers == 0
}

// wholeTail has the first roll after Open write the whole newest segment again, if that leaves an eighth of the new one, and
// in its place: under its name, with which the old file goes, and its blocks are free for another spare. Else each restart
// on a full device would cost the rest of a segment, and after a few there would be none to write to (P9).
func (l *Log) wholeTail(need, size int64) bool {
	t := &l.tail
	if t.name == "" || t.end+need > size*7/8 {
		return false
	}
	t.off, t.last, t.chain = blockBytes, t.head.base-1, t.head.chain
	return true
}

// promote makes a spare the segment that h describes; block is its beginning.
func (l *Log) promote(spare string, h *header, block []byte) (*active, error) {
	name := segmentName(h.number)
	if err := l.fill(spare, block); err != nil {
		if !IsFull(err) {
			return nil, err
		}
		l.setFull(true)
		_ = l.fs.Remove(l.path(spare)) // what stays, the next Open counts as a spare again
		return nil, fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err := l.fs.Rename(l.path(spare), l.path(name)); err != nil {
		return nil, fmt.Errorf("rename %s to %s: %w", spare, name, err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return nil, fmt.Errorf("sync folder of %s: %w", name, err)
	}
	f, err := l.fs.Open(l.path(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &active{file: f, name: name, size: h.size, off: int64(len(block)), salt: h.salt, seed: h.seed()}, nil
}

// fill writes and syncs the beginning of a spare. The file is closed again, as windows does not rename an open one.
func (l *Log) fill(spare string, block []byte) error {
	f, err := l.fs.Open(l.path(spare))
	if err != nil {
		return fmt.Errorf("open %s: %w", spare, err)
	}
	_, err = f.WriteAt(block, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write header of %s: %w", spare, err)
	}
	return nil
}

// copyTail reads the tail and seals its groups anew, for the segment that h describes. It sets base and chain of h to
// where the tail begins, and chain to the CRC of its last group.
func (l *Log) copyTail(h *header, chain *uint32) ([]byte, error) {
	t := &l.tail
	f, err := l.fs.Open(l.path(t.name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.name, err)
	}
	defer f.Close()
	h.base, h.chain = t.last+1, t.chain
	*chain = t.chain
	seed := h.seed()
	return t.read(f, func(g *group, b []byte) {
		g.chain = *chain
		*chain = g.seal(b, h.salt, seed)
	})
}

// read reads the groups of the tail, and calls each for every one of them.
func (t *tail) read(f File, each func(g *group, b []byte)) ([]byte, error) {
	b := make([]byte, t.end-t.off)
	if err := readFull(f, t.name, b, t.off); err != nil {
		return nil, err
	}
	seed := t.head.seed()
	for off := int64(0); off < int64(len(b)); {
		g, ok := decodeGroup(b[off:], t.head.salt, int64(len(b))-off)
		if !ok || !g.intact(b[off:], seed) {
			return nil, corrupt(t.name, t.off+off, "group changed since the log was opened")
		}
		each(&g, b[off:])
		off += g.size()
	}
	return b, nil
}

// newSalt returns a random number that is not zero.
func newSalt() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails
		if salt := le.Uint64(b[:]); salt != 0 {
			return salt
		}
	}
}
