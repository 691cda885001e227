package bolt

import (
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// Overflow says what becomes of a new event for which a quota has no room.
type Overflow uint8

const (
	// Reject refuses it with [outbox.ErrFull].
	Reject Overflow = iota
	// Block has Create wait until enough was delivered or dropped, or until its
	// context ends: then the error is ErrFull and that of the context. Who waits is
	// served in the order of coming, so a large batch gets its turn. A publisher that
	// hands in events itself should not use it: nobody may be left to make room.
	Block
	// DropOldest drops the oldest events that wait, never those in flight, and no more
	// than there must go. The oldest are those of the lowest IDs, whatever their
	// [outbox.Priority]: an old event of the class High goes before, and for, a new one of
	// the class Low. Where that must not be, give what may be lost a time-to-live, or a
	// store of its own. They are counted in Stats as DroppedBy.Quota, and logged; the
	// receiver is told with [outbox.WithGapMarkers].
	// When all that is left is in flight, it is Reject.
	DropOldest
)

// String returns the constant's name.
func (o Overflow) String() string {
	switch o {
	case Reject:
		return "Reject"
	case Block:
		return "Block"
	case DropOldest:
		return "DropOldest"
	}
	return fmt.Sprintf("Overflow(%d)", uint8(o))
}

// minQuotaBytes is the smallest quota of bytes.
const minQuotaBytes = 1 << 20

// WithMaxBytes bounds what events that wait or are in flight may cost on disk, 1 MiB
// at least; without it there is no bound (P8). An event costs its encoded size, which
// is some 80 bytes beside payload, headers, name and keys, and 98 and its name once more
// for its place in the database, and for each of Key, Unique and LatestOnly key its length and 48.
// [outbox.Stats] shows the sum as PendingBytes. An event or batch that costs more than
// the whole quota is refused with [outbox.ErrTooLarge] under every policy.
//
// Dead letters have a quota of their own, see [WithMaxDead]. Requeueing them always
// works, and may exceed this one. So does opening a store that holds more: it accepts
// again when it has drained; see [WithOverflow].
func WithMaxBytes(n int64) Option {
	return func(o *options) {
		if n > 0 {
			o.quota.bytes = max(n, minQuotaBytes)
		}
	}
}

// WithMaxTasks bounds how many events may wait or be in flight; without it there is no
// bound. It goes together with [WithMaxBytes].
func WithMaxTasks(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.quota.tasks = int64(n)
		}
	}
}

// WithOverflow sets what becomes of an event for which [WithMaxBytes] or
// [WithMaxTasks] leave no room; the default is [Reject].
//
// Within a transaction of the application, see [WithTx], nothing can wait, so Block
// is Reject there. With DropOldest what is accepted there may exceed the quota until
// the moment after the commit. What a transaction accepts takes room from the call
// on; a LatestOnly event takes it beside the one that it replaces.
func WithOverflow(policy Overflow) Option {
	return func(o *options) {
		if policy <= DropOldest {
			o.overflow = policy
		}
	}
}

// WithMaxDead bounds how many dead letters are kept, and what they may cost, counted
// as in [WithMaxBytes]; 0 is no bound, which is the default. A moment after a new one
// exceeds that, the oldest by ID are dropped, counted in Stats as DroppedBy.Quota, and
// logged. The newest is always kept. A store that is opened with more keeps them until
// the next one dies.
func WithMaxDead(tasks int, bytes int64) Option {
	return func(o *options) {
		o.deadQuota = amount{tasks: int64(max(tasks, 0)), bytes: max(bytes, 0)}
	}
}

// limited reports whether any quota is set.
func (o *options) limited() bool { return o.quota != amount{} || o.deadQuota != amount{} }

// excess returns what is too much of a, by an allowance whose zeros allow anything.
func (a amount) excess(allowed amount) (e amount) {
	if allowed.tasks > 0 {
		e.tasks = max(a.tasks-allowed.tasks, 0)
	}
	if allowed.bytes > 0 {
		e.bytes = max(a.bytes-allowed.bytes, 0)
	}
	return e
}

// none reports whether nothing is left of an amount that was wanted.
func (a amount) none() bool { return a.tasks <= 0 && a.bytes <= 0 }

// totalCost is what entries cost together.
func totalCost(entries []*entry) (a amount) {
	for _, e := range entries {
		a.add(amount{1, e.cost}, 1)
	}
	return a
}

// tooLarge refuses what no empty store could take.
func (o *options) tooLarge(gross amount) error {
	e := gross.excess(o.quota)
	switch {
	case e.bytes > 0:
		return fmt.Errorf("%w: %d events cost %d bytes, the quota is %d", outbox.ErrTooLarge, gross.tasks, gross.bytes, o.quota.bytes)
	case e.tasks > 0:
		return fmt.Errorf("%w: %d events at once, the quota is %d", outbox.ErrTooLarge, gross.tasks, o.quota.tasks)
	}
	return nil
}

// fullError is ErrFull with the quota that is used up.
type fullError struct {
	used, asked, quota amount
	lacks              amount   // so much would have to go
	replaced           []*entry // what goes anyway
}

func (f *fullError) Error() string {
	text := outbox.ErrFull.Error()
	if f.lacks.bytes > 0 {
		text += fmt.Sprintf(": %d of %d bytes are used, and %d more are asked for", f.used.bytes, f.quota.bytes, f.asked.bytes)
	}
	and := ": "
	if f.lacks.bytes > 0 {
		and = ", and "
	}
	if f.lacks.tasks > 0 {
		text += and + fmt.Sprintf("%d of %d events are there, and %d more are asked for", f.used.tasks, f.quota.tasks, f.asked.tasks)
	}
	return text + ": have events delivered, delete some, or raise the quota"
}

func (f *fullError) Unwrap() error { return outbox.ErrFull }
