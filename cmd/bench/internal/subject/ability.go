package subject

import (
	"context"
	"errors"
)

// Ability is what not every contender can do. Who cannot is left out of the workloads
// that need it, and the output says so.
type Ability string

// The abilities, as the end of "it cannot …".
const (
	Inline   Ability = "publish in the call that accepts the event"
	Refusals Ability = "try an event again soon after it was refused"
	Outages  Ability = "tell an outage from a refusal, and wait for its end without a write"
	Keys     Ability = "keep the order within a key while keys are published side by side"
	Joins    Ability = "join a transaction of the application"
	Survives Ability = "be opened from a copy of a folder, as a crash leaves it" // whoever is Durable, and has one
)

// Has reports whether the subject has an ability; all have none, which is "".
func (s Subject) Has(a Ability) bool {
	switch a {
	case "":
		return true
	case Survives:
		return s.Durable && !s.Elsewhere
	}
	for _, one := range s.Can {
		if one == a {
			return true
		}
	}
	return false
}

// Inliner is a queue with [Inline].
type Inliner interface {
	// Do makes the event durable, publishes it, and notes that it is delivered.
	Do(ctx context.Context, payload []byte, publish func(payload []byte)) error
}

// What a publisher of [Trier] returns.
var (
	ErrRefused     = errors.New("refused")
	ErrUnavailable = errors.New("the destination is down")
)

// Trier is a queue with [Refusals] or [Outages].
type Trier interface {
	// Try is Consume with a publisher that may refuse an event, which is then tried
	// again, at least twice, a few milliseconds later; or that finds the destination
	// down, which takes nothing from the event.
	Try(ctx context.Context, publish func(payload []byte) error) error
}

// Waker is a queue with [Outages].
type Waker interface {
	// Wake tells that the destination may be back.
	Wake()
}

// Keyer is a queue with [Keys].
type Keyer interface {
	// EnqueueKey is Enqueue for an event with a key.
	EnqueueKey(ctx context.Context, key string, payload []byte) error
}

// TxQueue is a queue in the application's own database, which [Joins].
type TxQueue interface {
	Queue
	// EnqueueTx writes a row of the application's and the event in one transaction.
	// together = the transaction may hold those of other callers as well.
	EnqueueTx(ctx context.Context, payload []byte, together bool) error
	// Rows is how many rows the application has.
	Rows(ctx context.Context) (uint64, error)
}
