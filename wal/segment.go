package wal

import (
	"errors"
	"fmt"
	"time"
)

// segment is one file of the log, as the list of segments knows it.
type segment struct {
	number  uint64
	base    Position // its records begin here; those of the one before end there
	size    int64
	readers int // how many iterations are in it: it is not freed meanwhile. Guarded by Log.mu
}

func (s *segment) name() string { return segmentName(s.number) }

func segmentName(number uint64) string { return fmt.Sprintf("%016d.wal", number) }
func spareName(number uint64) string   { return fmt.Sprintf("%016d.spare", number) }
func unfinishedName(n uint64) string   { return fmt.Sprintf("%016d.tmp", n) }

// active is the segment that is being written. Only the leader uses it; off changes under Log.mu, as it is also looked
// at when the device is full.
type active struct {
	file File
	name string
	size int64
	off  int64 // where the next group goes
	salt uint64
	seed uint32
}

// commit writes a round and syncs it: with one write and one sync when it fits into the active segment. A lazy log only
// writes, unless somebody asked for a sync. It is called by the leader without any lock. An error that is ErrNoSpace
// leaves the log as it was after the last group that l.written covers.
func (l *Log) commit(r *round) error {
	err := l.write(r)
	if !r.sync || err != nil && !errors.Is(err, ErrNoSpace) {
		return err
	}
	if serr := l.secure(); serr != nil {
		return serr
	}
	return err
}

// secure syncs what was written, and writes again what nobody can vouch for: see roll.
func (l *Log) secure() error {
	if l.tail.end > l.tail.off {
		return l.roll(0)
	}
	return l.syncActive()
}

// write writes a round. What does not fit goes on in the next segment after the first part has been synced (R5); a group
// is never split (R23).
func (l *Log) write(r *round) error {
	for rest := r.groups; len(rest) > 0; {
		n := l.fitting(rest)
		if n == 0 {
			if err := l.roll(rest[0].size()); err != nil {
				return err
			}
			continue
		}
		if err := l.writeGroups(r.buf, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// fitting is how many of the groups fit into the active segment.
func (l *Log) fitting(groups []draft) int {
	if l.active == nil {
		return 0
	}
	room := l.active.size - l.active.off
	for i := range groups {
		if room -= groups[i].size(); room < 0 {
			return i
		}
	}
	return len(groups)
}

// writeGroups gives the groups their headers, writes them behind what is in the active segment, and syncs, unless the log
// is lazy.
func (l *Log) writeGroups(buf []byte, groups []draft) error {
	a, prev, chain := l.active, l.written, l.chain
	records := uint64(0)
	for i := range groups {
		d := &groups[i]
		g := group{
			payload: uint32(d.end - d.start - groupBytes),
			records: d.records,
			first:   d.first,
			prev:    prev,
			durable: l.synced, // R20
			chain:   chain,
		}
		chain, prev = g.seal(buf[d.start:d.end], a.salt, a.seed), g.last()
		records += uint64(d.records)
	}
	end := &groups[len(groups)-1]
	buf = buf[groups[0].start : end.start+int(end.size())]

	if _, err := a.file.WriteAt(buf, a.off); err != nil {
		return l.writeFailed(err)
	}
	l.written, l.chain = prev, chain
	var took time.Duration
	if !l.opts.Lazy {
		var err error
		if took, err = l.syncFile(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	a.off += int64(len(buf))
	l.stats.wrote(len(groups), records, int64(len(buf)))
	l.mu.Unlock()
	if !l.opts.Lazy {
		l.countSync(took)
	}
	return nil
}

// countSync counts a sync, and tells of it.
func (l *Log) countSync(took time.Duration) {
	l.mu.Lock()
	l.stats.synced(took)
	records := l.stats.LastRecords
	l.mu.Unlock()
	if l.opts.OnSync != nil {
		l.opts.OnSync(records, took)
	}
}

// syncActive makes durable what a lazy log has written.
func (l *Log) syncActive() error {
	if l.written == l.synced {
		return nil
	}
	took, err := l.syncFile()
	if err != nil {
		return err
	}
	l.countSync(took)
	return nil
}

// syncFile syncs the active segment. Only then may a watermark name what was written (R20).
func (l *Log) syncFile() (took time.Duration, err error) {
	start := time.Now()
	if err := l.active.file.Sync(); err != nil {
		return 0, fmt.Errorf("sync %s: %w", l.active.name, err)
	}
	l.synced = l.written
	l.onDisk.Store(uint64(l.synced))
	return time.Since(start), nil
}

// writeFailed turns a failed write of groups into an error that is final or not. A file system that copies on write may
// have no room even for blocks that have been written before. What it did write must not be found later as if it had
// been accepted (R38), so the place is made to look unused; where that fails too, the error is final.
func (l *Log) writeFailed(err error) error {
	a := l.active
	err = fmt.Errorf("write %s at offset %d: %w", a.name, a.off, err)
	if !IsFull(err) {
		return err
	}
	var blank [groupBytes]byte
	if _, werr := a.file.WriteAt(blank[:], a.off); werr != nil {
		return errors.Join(err, werr)
	}
	if serr := a.file.Sync(); serr != nil {
		return errors.Join(err, serr)
	}
	l.setFull(true)
	return fmt.Errorf("%w: %w", ErrNoSpace, err)
}
