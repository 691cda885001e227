package wal

import (
	"errors"
	"fmt"
)

// What a caller may want to tell apart. Compare with [errors.Is]: every error carries more, such as the
// file, the byte offset and the cause.
var (
	// ErrClosed is returned when the log is used after Close.
	ErrClosed = errors.New("wal: closed")

	// ErrPoisoned is returned when a write or a sync has failed, by that call and by all later ones. It wraps
	// the first cause. The log stays readable; to write again, close it and open it anew.
	ErrPoisoned = errors.New("wal: poisoned by an earlier error")

	// ErrCorrupt is returned when bytes that had become durable are missing or changed.
	ErrCorrupt = errors.New("wal: corrupt")

	// ErrTooLarge is returned when one call brings more than Options.MaxBatchBytes. Nothing of it is queued.
	ErrTooLarge = errors.New("wal: batch too large")

	// ErrNoSpace is returned when the device is full. The records of that call are not in the log and never
	// will be. The log goes on working: Trim or Prepare may bring space back.
	ErrNoSpace = errors.New("wal: no space left on device")

	// ErrMismatch is returned when a folder holds a segment that belongs to another store.
	ErrMismatch = errors.New("wal: log of another store")

	// ErrVersion is returned when a segment was written in a newer format. No file has been touched.
	ErrVersion = errors.New("wal: format version not supported")

	// ErrUnknown is returned when the context ended while a record waited to become durable. The record has its
	// place in the log and may still become durable, or not (R14). It also wraps the error of the context.
	ErrUnknown = errors.New("wal: outcome unknown, the record may still become durable")
)

// corrupt names what is wrong and where.
func corrupt(file string, offset int64, why string, args ...any) error {
	return fmt.Errorf("%w: %s at offset %d: %s", ErrCorrupt, file, offset, fmt.Sprintf(why, args...))
}
