package outbox

import (
	"strings"
	"time"
)

// State says where a task stands. A task that was delivered or dropped is gone
// from the store and lives on in the counters of [Stats] only.
type State uint8

const (
	Waiting  State = iota // accepted, not yet delivered: due now or later
	InFlight              // claimed: somebody is publishing it
	Dead                  // given up: a dead letter, kept until requeued or deleted
)

// String returns the word used in logs and listings.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case InFlight:
		return "in flight"
	case Dead:
		return "dead"
	}
	return "unknown"
}

// Reason says why a task died or was dropped. The strings are stored; do not
// change them.
type Reason string

const (
	ReasonExhausted Reason = "attempts exhausted" // dead: MaxAttempts refusals
	ReasonPermanent Reason = "permanent"          // dead: the publisher said so with [Permanent]
	ReasonUnhandled Reason = "no handler"         // dead: no pattern of the [Mux] matches its name
	ReasonKeyParked Reason = "key parked"         // dead: an event of its key died before it, see [ParkWholeKey]
	ReasonDamaged   Reason = "damaged"            // dead: what the store has of it is not what was written; it cannot be requeued
	ReasonExpired   Reason = "expired"            // dropped: its TTL ran out
	ReasonCoalesced Reason = "coalesced"          // dropped: a newer event of its [WithLatestOnly] key took its place
	ReasonQuota     Reason = "quota"              // dropped: to make room for newer ones
	ReasonDeleted   Reason = "deleted"            // dropped: the user deleted it
)

// Failure is one attempt that failed, as the task's history remembers it.
type Failure struct {
	At      time.Time // wall clock when the attempt ended
	Attempt int       // the attempt's number, from 1; 0 = there was none
	Error   string    // at most [MaxErrorBytes] bytes
}

// Limits of what a store keeps for a task.
const (
	MaxNameBytes  = 255      // of an event's name
	MaxKeyBytes   = 1024     // of a Key, Unique or LatestOnly key, each
	MaxHeaders    = 64 << 10 // bytes of all header names and values together
	MaxErrorBytes = 1024     // of one error text in the history; longer ones are cut
	MaxFailures   = 8        // of the history; older failures are forgotten first
)

// cutNote ends an error text that was cut.
const cutNote = " … (cut)"

// Task is what a [Store] keeps: the event, its state, attempts, schedule and
// error history.
type Task struct {
	Event

	State       State
	Attempts    int       // attempts spent; failures to reach the destination spend none (P6)
	MaxAttempts int       // the attempt that fails as this number ends the task as a dead letter; at least 1
	DueAt       time.Time // not delivered before; on the store's own clock (P12)
	ExpiresAt   time.Time // dropped, not delivered, from then on; zero = never; on the store's own clock
	Unique      string    // at most one task with this key waits or is in flight; "" = any number
	LatestOnly  string    // a newer task with this key replaces the waiting older one; "" = all are kept
	Priority    Priority  // the class
	KeyPolicy   KeyPolicy // what its death means for its Key
	Failures    []Failure // the last attempts that failed, oldest first
	Reason      Reason    // why it is dead; "" otherwise

	UniqueFor time.Duration // Unique stays taken so long after the delivery; 0 = not at all
	RetryBase time.Duration // the backoff of this task, see [WithEventBackoff]; 0 = that of the outbox
	RetryMax  time.Duration

	// What a caller of Create asks for; a listed or claimed task has zeros here.
	Delay time.Duration // not due before so long after it was accepted
	TTL   time.Duration // expires so long after it was accepted; 0 = never
	Lease time.Duration // > 0: claim it in the same step, if it is due and the head of its key

	// Token is the claim under which the task is in flight; Settle wants it back.
	Token uint64

	publishFirst bool // PublishFirst was given; Do alone looks at it
}

// Fail adds f to the history, within [MaxFailures] and [MaxErrorBytes]. Stores
// use it, so that all of them remember the same.
func (t *Task) Fail(f Failure) {
	f.Error = clip(f.Error)
	keep := t.Failures
	if len(keep) >= MaxFailures {
		keep = keep[len(keep)-MaxFailures+1:]
	}
	t.Failures = append(append(make([]Failure, 0, len(keep)+1), keep...), f)
}

// clip cuts a text to [MaxErrorBytes], and says so in it.
func clip(text string) string {
	if len(text) <= MaxErrorBytes {
		return text
	}
	return strings.ToValidUTF8(text[:MaxErrorBytes-len(cutNote)], "") + cutNote
}
