package outbox

import (
	"context"
	"iter"
	"math"
	"time"
)

// Store keeps tasks. The rules in the comments are the law; package storetest
// checks them, for the stores of this module and for yours.
//
// Three verbs carry the data path: Create, Claim, Settle. All methods are safe
// for concurrent use by multiple goroutines, and may be called while a publisher
// works: no lock and no transaction is held in between. A store shares no memory
// with its callers: payloads, headers and histories are copied on the way in and on
// the way out.
//
// A store owns the clock. Delays, due times, leases and time-to-live are kept on
// the store's clock, which never runs backwards and, while the process lives,
// runs at the speed of the monotonic clock (P12). Callers therefore hand over
// durations, never points in time.
type Store interface {
	// Create accepts tasks, all or none, and is durable when it returns nil (P1).
	//
	// It fills in ID, CreatedAt, DueAt and ExpiresAt. IDs rise within tasks and
	// from call to call; an ID that is not zero is kept, and refused with
	// ErrDuplicate if the store holds a task with it, or a LatestOnly task of the same key
	// with a higher one, and with ErrInvalid if its time is after [MaxIDTime]. A task with a Lease is
	// claimed in the same step if it is due and the head of its key, and that is not
	// parked: State and Token then say so.
	//
	// A Unique key is held by the task that waits or is in flight, and after its delivery for
	// UniqueFor, on the store's clock. One that is dead or dropped holds it no longer.
	//
	// With a transaction in ctx (see [WithTx]) the tasks become durable and
	// visible when that transaction commits, and none is claimed; a store that
	// cannot join it returns ErrTxUnsupported.
	//
	// Errors: ErrDuplicate, ErrInvalid, ErrFull, ErrDiskFull, ErrTooLarge, ErrClosed,
	// ErrPoisoned; ErrOutcomeUnknown when ctx ended while waiting for the disk.
	Create(ctx context.Context, tasks []Task) error

	// Claim takes waiting tasks that are due and leases them to the caller: until the
	// lease ends nobody else gets them. It takes turns between the classes of
	// [Priority] as [Turn] says, and within a class the oldest due time first, the
	// oldest ID first among equals. Of the tasks with one Key only the head, the oldest
	// that waits or is in flight, can be claimed, and nothing while another of them
	// is in flight (P4). Tasks whose time-to-live
	// has run out are dropped on the way; tasks that a newer LatestOnly task has
	// replaced too. A head that would be claimed, but whose key is parked (an older task of it is a
	// dead letter with [Task.ParksKey]), is not claimed: it becomes a dead letter itself, for
	// [ReasonKeyParked], with no attempt spent and nothing added to its history.
	//
	// Claiming spends no attempt and survives no restart: after a reopen whatever
	// was in flight waits again, at once.
	Claim(ctx context.Context, req ClaimRequest) (Claimed, error)

	// Settle ends claims. It may return before it is durable (P3): after a crash
	// the tasks of the last moments may be claimed again. Outcomes whose Token is
	// not the task's current claim change nothing; the others take effect, and
	// the error is ErrLeaseLost; a verdict that there is not makes the whole call
	// ErrInvalid. An outcome that comes after its lease has ended
	// counts all the same, as long as nobody has claimed the task since.
	Settle(ctx context.Context, outcomes []Outcome) error

	// Stats counts. Accepted = Delivered + Pending + InFlight + Dead + Dropped
	// holds in every answer (P5).
	Stats(ctx context.Context) (Stats, error)

	// Tasks lists tasks, oldest ID first, while others write: a task that is there
	// throughout is listed exactly once, one that comes or goes meanwhile at most
	// once. An error ends the listing.
	Tasks(ctx context.Context, f Filter) iter.Seq2[Task, error]

	// Requeue makes dead tasks wait again, due at once, with no attempt spent and
	// their history kept; durable on return. A requeued task no longer expires. It
	// returns how many. IDs of tasks that are not dead are passed over and reported
	// as ErrNotFound; those whose Unique or LatestOnly key is held by now, or whose Unique
	// key is taken for the UniqueFor of one that was delivered, stay dead and are reported as ErrDuplicate, damaged ones as ErrCorrupt.
	Requeue(ctx context.Context, ids ...ID) (int, error)

	// Delete drops waiting and dead tasks; durable on return. It returns how many.
	// A task in flight stays and is reported as ErrInFlight, an unknown one as
	// ErrNotFound.
	Delete(ctx context.Context, ids ...ID) (int, error)

	// Close makes everything durable and lets go of the files. Calls after it
	// return ErrClosed; a second Close does nothing.
	Close() error
}

// Notifier is what a Store also implements when tasks can become claimable
// without a call that this outbox made: by a commit of the application's
// transaction, a requeue, another process. Without it they are found at the next
// loop interval.
type Notifier interface {
	// Notify has f called after tasks have become claimable, until stop is called.
	// f does not block, and may be called too often.
	Notify(f func()) (stop func())
}

// NameNotifier is a [Notifier] that says what has become claimable. With one, of the
// destinations of a [Mux] only those look for work that there may be work for; without,
// all of them do after every event.
type NameNotifier interface {
	Notifier

	// NotifyNames has f called, until stop is called, after tasks have become claimable, or
	// will by the passing of time sooner than the claims before were told, with the names
	// of them all: those accepted, committed, released, retried, requeued, and the next of
	// a key whose head has ended or was dropped. [GapName] is among them when something
	// is untold that was not before, or that a gap has stood in the way of. No names: it
	// may be any. Whoever made the call that was the cause, this outbox or
	// another, is told all the same.
	//
	// f does not block, keeps nothing of names, and may be called too often.
	NotifyNames(f func(names []string)) (stop func())
}

// ClaimRequest says how much to claim.
type ClaimRequest struct {
	Max      int           // most tasks; at least 1
	MaxBytes int           // most payload bytes, unless the first task alone has more; 0 = no limit
	Lease    time.Duration // how long they are the caller's; at most [MaxLease], which is also the default

	// Match chooses by name; nil = all. It is a pure function, quick, and does not call
	// the store. What it leaves out stands in nobody's way (but in its own key's), and
	// costs a claim nothing, however much of it waits. A store may take the tasks of
	// thousands of different names together; then it may find what matches later.
	Match func(name string) bool

	// Newest takes the latest due time first and the newest ID first among equals,
	// within each class. Keys keep their order (P4).
	Newest bool

	// Gaps has the store tell of what it has dropped for a reason of [GapReasons], with an
	// event named [GapName] for each reason; see [Gap] and [Untold].
	//
	// What is dropped is untold from the step that drops it on, durably as the drop is,
	// whether or not anybody asks. When a claim that asks, and whose Match has nothing
	// against GapName, is about to take another task or to end, the store first accepts
	// one task that tells of all that is untold for a reason, and in the same step nothing
	// of that is untold any more: each drop is told once, also after any crash (P5). The
	// task is durable before it is claimed. No other is made for that reason while
	// the latest one waits or is in flight; what is dropped meanwhile is for the next.
	//
	// Such a task lives and dies like any other, but it needs no room in a quota, and while
	// it waits none drops it. If there is no room on the disk for it, the claim goes on
	// without (P9), and a later one makes it.
	Gaps bool
}

// MaxIDTime is the latest time of an ID that a store accepts or takes from the clock, in
// milliseconds since 1970: in the year 10889, some minutes before there are no more. So
// there is always a higher ID to hand out (P4).
const MaxIDTime = 1<<48 - 1 - 1<<20

// MaxLease is the longest lease a store grants.
const MaxLease = 24 * time.Hour

// Claimed is what a claim found.
type Claimed struct {
	Tasks []Task // InFlight, each with its Token; Attempt counts from 1

	// NextIn is how long until another task may become claimable by the passing
	// of time: 0 = there are more now, [Forever] = none will.
	NextIn time.Duration
}

// Forever is longer than any wait.
const Forever = time.Duration(math.MaxInt64)

// Verdict is how a claim ends.
type Verdict uint8

const (
	// Done: delivered. The task is gone.
	Done Verdict = iota + 1
	// Retry: refused. The attempt is spent, Failure goes into the history, the
	// task is due again after Delay.
	Retry
	// Release: nothing is known of the event itself. No attempt is spent, nothing
	// is written to disk (P6), the task is due again after Delay, at once after a
	// restart.
	Release
	// Bury: given up for Reason. The attempt is spent, unless there was none (see
	// [Outcome.Spends]), Failure goes into the history, the task is a dead letter.
	Bury
)

// Outcome is what became of one claimed task.
type Outcome struct {
	ID      ID
	Token   uint64
	Verdict Verdict
	Delay   time.Duration // of Retry and Release
	Failure Failure       // of Retry and Bury
	Reason  Reason        // of Bury
}

// Spends reports whether the outcome spends an attempt: Retry does, and Bury, but for
// [ReasonUnhandled], when nobody was there to make one. Stores use it.
func (o Outcome) Spends() bool {
	return o.Verdict == Retry || o.Verdict == Bury && o.Reason != ReasonUnhandled
}

type txKey struct{}

// WithTx returns a context that carries a transaction for Create. Programs call
// the function of the same name in their store's package, which knows the type.
func WithTx(ctx context.Context, tx any) context.Context {
	return context.WithValue(ctx, txKey{}, tx)
}

// TxFrom returns the transaction that ctx carries, or nil. Stores call it; one
// that finds a transaction it cannot join must refuse with ErrTxUnsupported.
func TxFrom(ctx context.Context) any { return ctx.Value(txKey{}) }
