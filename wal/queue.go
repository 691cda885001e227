package wal

import (
	"context"
	"fmt"
)

// Append queues the records and waits until they are durable. It returns the position of the last one. One call is all
// or nothing, also after a crash. A context that has already ended is returned as it is, and nothing is queued; for
// one that ends later see Wait. Without records nothing happens, and the position is that of the newest record queued.
func (l *Log) Append(ctx context.Context, records ...[]byte) (Position, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	last, err := l.queueLocked(records, l.opts.SegmentBytes-blockBytes, false)
	if err != nil || len(records) == 0 {
		l.mu.Unlock()
		return last, err
	}
	return last, l.waitUnlock(ctx, l.open, last)
}

// Queue gives the records their place in the order and returns the position of the last one. The bytes are copied. It
// does no I/O and never waits for a sync: the records become durable with the next one that somebody leads, and Wait
// tells when. Queued bytes are held in memory until then. When the device is known to be full and only the space kept
// for Write is left, the records are refused with ErrNoSpace.
func (l *Log) Queue(records ...[]byte) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queueLocked(records, l.opts.SegmentBytes-blockBytes, false)
}

// Write is Queue for records that lead to less data, such as "this task is done": it may use the space, about one
// segment, that Queue leaves alone when the device is full.
func (l *Log) Write(records ...[]byte) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queueLocked(records, 0, false)
}

// Queued returns how many bytes wait in memory for the next sync.
func (l *Log) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open.buf)
}

// WriteLeaving is Write for an owner who knows that the device is full, also where the log does not: it takes no more than
// is there without another segment being made, and leaves so many bytes of it to records that matter more.
func (l *Log) WriteLeaving(bytes int64, records ...[]byte) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queueLocked(records, bytes, true)
}

func (l *Log) queueLocked(records [][]byte, leave int64, full bool) (Position, error) {
	bytes := 0
	for _, data := range records {
		if len(data) > l.opts.MaxBatchBytes-recordBytes-bytes {
			return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, l.opts.MaxBatchBytes)
		}
		bytes += len(data) + recordBytes
	}
	if err := l.admitLocked(int64(bytes), leave, full); err != nil {
		return 0, err
	}
	if len(records) > 0 {
		l.open.add(l.next, bytes, records, min(roundBytes, int(l.opts.SegmentBytes)-blockBytes))
		l.open.yields = l.open.yields || leave >= l.opts.SegmentBytes-blockBytes
		l.next += Position(len(records))
	}
	return l.next - 1, nil
}

// admitLocked says whether records of so many bytes may be queued. Space is only looked at when the device is known
// to be full: else there is always one more segment (R38).
func (l *Log) admitLocked(bytes, leave int64, full bool) error {
	switch {
	case l.err != nil:
		return l.err
	case l.closing:
		return ErrClosed
	case l.failing:
		return ErrNoSpace
	case !l.full && !full:
		return nil
	}
	segment := l.opts.SegmentBytes - blockBytes
	need := alignUp(groupBytes+bytes, groupAlign)
	if l.roomLocked()-need < leave || need > segment {
		return ErrNoSpace
	}
	return nil
}

// roomLocked is how many bytes can be queued before another segment has to be made.
func (l *Log) roomLocked() int64 {
	room := int64(len(l.spares)) * (l.opts.SegmentBytes - blockBytes)
	if l.small.size > 0 {
		room += l.small.size - blockBytes
	}
	if len(l.spares) == 0 && l.small.name == "" {
		room += l.rest // see resume
	}
	if l.active != nil {
		room += l.active.size - l.active.off
	}
	if l.writing != nil {
		room -= int64(len(l.writing.buf))
	}
	return room - int64(len(l.open.buf))
}
