package outbox

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Exporter is what a Store also implements that events can be copied out of: see [Copy].
type Exporter interface {
	// Export lists as Tasks does, and says in Delay and TTL of each task how long it is
	// until it is due, and until it expires, on the store's clock: see [Task.SetLeft]. A
	// task that waits, but that a newer LatestOnly task has replaced, is left out.
	Export(ctx context.Context, f Filter) iter.Seq2[Task, error]
}

// Importer is what a Store also implements that events can be copied into: see [Copy].
type Importer interface {
	// Import accepts tasks as another store has exported them, all or none, and is durable
	// when it returns nil (P1). Their IDs rise. It keeps what Create keeps, and also
	// CreatedAt, to the microsecond, and what is left of a schedule: a task is due Delay from
	// now, in the past if that is negative, and expires TTL from now, unless that is zero. A
	// dead letter is one here too, with its Reason, and parks its key if it did; all else
	// waits. Nothing is claimed, and tasks is left as it is.
	//
	// Two kinds are passed over: a task with an ID that the store holds, and one that
	// waits while a newer task of its LatestOnly key waits or is in flight. So what was
	// imported may be imported again. A store that holds the task damaged deletes that, and
	// takes the intact one. Import returns how many tasks were not passed over: they count as
	// accepted, and the dead as dead (P5).
	//
	// A quota that has no room for what waits makes it ErrFull, whatever its policy:
	// nothing is dropped for what comes from elsewhere, and Import does not wait.
	//
	// Errors: those of Create; ErrDuplicate is for Unique keys alone. See [CheckImport].
	Import(ctx context.Context, tasks []Task) (int, error)
}

// CheckImport says what makes tasks unfit for [Importer], whatever the store holds: IDs
// that are zero, after [MaxIDTime] or do not rise, and a dead letter without a reason, are
// ErrInvalid; one with [ReasonDamaged], whose content is not known, is ErrCorrupt. Stores
// use it.
func CheckImport(tasks []Task) error {
	var last ID
	for i := range tasks {
		switch t := &tasks[i]; {
		case t.ID.Compare(last) <= 0:
			return fmt.Errorf("import: ID %s behind %s: %w", t.ID, last, ErrInvalid)
		case t.ID.Time() > MaxIDTime:
			return fmt.Errorf("import: no ID is left above %s: %w", t.ID, ErrInvalid)
		case t.State == Dead && t.Reason == "":
			return fmt.Errorf("import: %s is dead for no reason: %w", t.ID, ErrInvalid)
		case t.State == Dead && t.Reason == ReasonDamaged:
			return fmt.Errorf("import: %s is damaged: %w", t.ID, ErrCorrupt)
		}
		last = tasks[i].ID
	}
	return nil
}

// SetLeft sets Delay and TTL to what is left of them at a moment of the store's clock.
// Delay is negative if the task has been due for so long. TTL is zero if the task does not
// expire; one that should have expired has 1 left. Stores use it.
func (t *Task) SetLeft(now time.Time) {
	t.Delay, t.TTL = t.DueAt.Sub(now), 0
	if !t.ExpiresAt.IsZero() {
		t.TTL = max(t.ExpiresAt.Sub(now), 1)
	}
}
