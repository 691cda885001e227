package outbox

import "time"

// Stats is a moment in the life of a store. The first block obeys P5: Accepted =
// Delivered + Pending + InFlight + Dead + Dropped.
type Stats struct {
	Accepted  uint64 // events ever accepted
	Delivered uint64 // events a publisher has taken
	Pending   uint64 // waiting, without those in flight
	InFlight  uint64 // being published
	Dead      uint64 // dead letters
	Dropped   uint64 // sum of DroppedBy

	PendingByPriority ByPriority // Pending, by class
	DroppedBy         Dropped
	Requeued          uint64    // dead letters made to wait again, ever
	OldestPending     time.Time // CreatedAt of the oldest task that waits; zero if none does

	// Of stores on disk; zero in others. What tasks cost: package store/bolt says how
	// it counts. An event that waits and one in flight cost the same.
	PendingBytes uint64 // of what waits and what is in flight
	DeadBytes    uint64 // of dead letters
	Damaged      uint64 // dead letters whose stored bytes are damaged, of those in Dead

	// Of stores on disk; zero in others. Since the store was opened.
	Syncs         uint64 // syncs of the log
	SyncedRecords uint64 // log records made durable by them
	BytesWritten  uint64 // bytes the store has written to its files
	Checkpoints   uint64 // transactions that moved waiting tasks to the database
	SyncLevel     string // when the store syncs what it accepts: "always", "every 1s", "never"
	DatabaseBytes uint64 // size of the database's file now
	LogBytes      uint64 // size of the log's files now

	LastCheckpoint time.Time // wall clock when the last of Checkpoints was committed; zero = none was
	NoRoom         error     // why nothing is accepted for now, [ErrDiskFull] or [ErrFull]; nil = it is (P9)
	Recovery       Recovery
}

// ByPriority is a count of each class.
type ByPriority struct{ High, Normal, Low uint64 }

// Add counts n more of a class.
func (b *ByPriority) Add(p Priority, n uint64) {
	switch p {
	case High:
		b.High += n
	case Low:
		b.Low += n
	default:
		b.Normal += n
	}
}

// Dropped counts, by reason, the events that a policy has dropped which the user
// chose.
type Dropped struct {
	Expired, Coalesced, Quota, Deleted uint64
}

// Total sums all reasons.
func (d Dropped) Total() uint64 { return d.Expired + d.Coalesced + d.Quota + d.Deleted }

// Add counts n more for a reason; reasons that drop nothing are passed over.
func (d *Dropped) Add(r Reason, n uint64) {
	switch r {
	case ReasonExpired:
		d.Expired += n
	case ReasonCoalesced:
		d.Coalesced += n
	case ReasonQuota:
		d.Quota += n
	case ReasonDeleted:
		d.Deleted += n
	}
}

// Recovery is what opening a store on disk has found and done.
type Recovery struct {
	Records int           // operations in the log that the database did not know
	Took    time.Duration // to read them and to move what waits to the database; 0 without any

	// What was being written when the last run ended, and had never become durable, is
	// cut off the end of the log. TornBytes is 0 when there was nothing.
	TornBytes  int64
	TornFile   string
	TornOffset int64
}
