package wal

import (
	"log/slog"
	"time"
)

const (
	defaultSegmentBytes  = 4 << 20
	minSegmentBytes      = 64 << 10
	maxSegmentBytes      = 1 << 30
	defaultMaxBatchBytes = 64 << 20
	defaultSpares        = 2
)

// Options says how a log is opened. The zero value of every field is its default.
type Options struct {
	// Store is the UUID of the store that owns the log. It is written into every segment, and a folder with a
	// segment of another store is refused with ErrMismatch (R4). All zero is a UUID like any other.
	Store [16]byte

	// SegmentBytes is the size of a segment file. Default 4 MiB; at least 64 KiB, at most 1 GiB, rounded up to
	// whole 4,096-byte blocks. It may differ from one Open to the next.
	SegmentBytes int64

	// MaxBatchBytes is the most that one Append, Queue or Write may bring, counted as the bytes of its records
	// and four more for each. Default 64 MiB, at most 1 GiB.
	MaxBatchBytes int

	// Spares is how many segments that are no longer needed are kept, to be written again: it is cheaper to
	// sync blocks that have been written before. Default 2.
	Spares int

	// Lazy has Append and Wait return when the records are written to the operating system, without a sync of their
	// own. They outlive the process then, whatever ends it, and a power cut takes those that no sync has covered yet:
	// an end of the log, never a part from its middle. What syncs is Sync, which the owner calls when it sees fit,
	// Close, and the end of each segment. Where a comment says durable, a lazy log means written; only Log.Synced
	// tells of the disk. See the section on sync levels in the package comment.
	Lazy bool

	// Logger receives one line when Open cuts a torn tail. May be nil.
	Logger *slog.Logger

	// OnDurable is called after every sync, or every write of a lazy log, with the position of the newest durable
	// record, before the callers that wait for it return. Calls come one at a time and in order, and no lock of the
	// log is held. It may call Queue and Write; it must not call Append, Wait, Flush, Sync or Close, and must not
	// panic. May be nil.
	OnDurable func(Position)

	// OnFailed is called when records that were queued have failed: all from this position on. With ErrNoSpace
	// they are not in the log and their positions are never given out again; with ErrPoisoned their fate is unknown.
	// Calls are ordered with those of OnDurable. Until it returns Queue and Write are refused, so what it is
	// told is still complete while it works. It must not call Append, Wait, Flush, Sync or Close. May be nil.
	OnFailed func(from Position, err error)

	// OnSync is called after every sync of groups that Stats counts, with how many records it has made durable and how
	// long it took. No lock of the log is held, but whoever waits for these records waits for it too: it must return at
	// once, and must not call the log. May be nil.
	OnSync func(records uint64, took time.Duration)

	// FS is where the files are. nil is the operating system.
	FS FS
}

// withDefaults returns the options as the log uses them.
func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(max(o.SegmentBytes, minSegmentBytes), maxSegmentBytes)
	o.SegmentBytes = alignUp(o.SegmentBytes, blockBytes)
	if o.MaxBatchBytes <= 0 {
		o.MaxBatchBytes = defaultMaxBatchBytes
	}
	o.MaxBatchBytes = min(o.MaxBatchBytes, maxPayloadBytes)
	if o.Spares <= 0 {
		o.Spares = defaultSpares
	}
	if o.FS == nil {
		o.FS = OS
	}
	return o
}
