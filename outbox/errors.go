package outbox

import "errors"

// Errors that callers branch on, with errors.Is. Stores wrap them with what and
// where.
var (
	// ErrClosed is returned when the store has been closed.
	ErrClosed = errors.New("outbox: closed")

	// ErrFull is returned when a limit that the user or the store has set on what
	// may wait is reached. Nothing was accepted; trying again later is right.
	ErrFull = errors.New("outbox: full")

	// ErrDiskFull is returned when the disk has no room for another event.
	// Nothing was accepted; what waits is still published (P9).
	ErrDiskFull = errors.New("outbox: disk full")

	// ErrPoisoned is returned for every call after a write or a sync of the store
	// failed: nothing is known to be safe until it is opened again (P10).
	ErrPoisoned = errors.New("outbox: store failed and must be reopened")

	// ErrTooLarge is returned when an event exceeds a limit. Nothing was accepted.
	ErrTooLarge = errors.New("outbox: too large")

	// ErrInvalid is returned when an event or an argument can never be accepted as
	// it is: a name that is empty, a payload that cannot be encoded, no publisher.
	ErrInvalid = errors.New("outbox: invalid")

	// ErrDuplicate is returned when a task with the same Unique key, or the same
	// ID, waits or is in flight, or one with the same Unique key was delivered less than
	// its UniqueFor ago. Nothing was accepted.
	ErrDuplicate = errors.New("outbox: duplicate")

	// ErrCorrupt is returned when stored bytes are not what was written. The text
	// names file and place; the file is left as it is (P11).
	ErrCorrupt = errors.New("outbox: corrupt")

	// ErrMismatch is returned when files that belong to different stores, or to
	// different moments of one store, lie in one folder.
	ErrMismatch = errors.New("outbox: files do not belong together")

	// ErrVersion is returned when files were written in a format that this program
	// does not know yet. They are left as they are.
	ErrVersion = errors.New("outbox: format version not supported")

	// ErrLocked is returned when another process, or this one, has the store open.
	ErrLocked = errors.New("outbox: locked")

	// ErrTxUnsupported is returned when the context carries a transaction that the
	// store cannot join. Nothing was accepted.
	ErrTxUnsupported = errors.New("outbox: transaction not supported by this store")

	// ErrNotFound is returned when no task with that ID is in the state that the
	// call is about.
	ErrNotFound = errors.New("outbox: not found")

	// ErrInFlight is returned when a task cannot be deleted because it is being
	// published at this moment.
	ErrInFlight = errors.New("outbox: in flight")

	// ErrLeaseLost is returned by Settle when a task was claimed anew, settled or
	// deleted since: that outcome has changed nothing.
	ErrLeaseLost = errors.New("outbox: lease lost")

	// ErrOutcomeUnknown is returned when the context ended while an event was
	// being made durable: it may have been accepted or not (R14). Enqueue returns
	// the event's ID with it; handing the event in again may deliver it twice.
	ErrOutcomeUnknown = errors.New("outbox: outcome unknown")

	// ErrPaused is returned by Drain on an outbox that is paused, and by Health when
	// that is why an event has become too old.
	ErrPaused = errors.New("outbox: paused")

	// ErrStale is returned by Health when an event has waited for longer than
	// [WithMaxAge] allows.
	ErrStale = errors.New("outbox: events are too old")

	// ErrStuck is returned by Health when events wait, and none is delivered though
	// they should be.
	ErrStuck = errors.New("outbox: nothing is delivered")

	// ErrUnavailable is returned by Drain and Health when the destination cannot be
	// reached, and is what [Unavailable] marks an error with.
	ErrUnavailable = errors.New("outbox: destination unavailable")
)
