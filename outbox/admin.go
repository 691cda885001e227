package outbox

import (
	"context"
	"iter"
)

// Stats counts what the store has, and what it has seen (P5).
func (o *Outbox) Stats(ctx context.Context) (Stats, error) { return o.store.Stats(ctx) }

// Tasks lists what waits, is in flight or is dead, oldest ID first, while the
// outbox works on. An error ends the listing.
//
//	for task, err := range ob.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}}) {
func (o *Outbox) Tasks(ctx context.Context, f Filter) iter.Seq2[Task, error] {
	return o.store.Tasks(ctx, f)
}

// Requeue makes dead letters wait again, due at once, with no attempt spent and
// their history kept. It is durable on return, and says how many. IDs that are not
// those of dead letters are passed over and reported as [ErrNotFound], those whose
// Unique or LatestOnly key has been taken meanwhile as [ErrDuplicate], those whose
// stored bytes are damaged as [ErrCorrupt].
func (o *Outbox) Requeue(ctx context.Context, ids ...ID) (int, error) {
	defer o.changed()
	return o.store.Requeue(ctx, ids...)
}

// Delete drops events that wait or are dead. It is durable on return, and says how
// many. An event in flight stays and is reported as [ErrInFlight], an unknown one
// as [ErrNotFound].
func (o *Outbox) Delete(ctx context.Context, ids ...ID) (int, error) {
	defer o.changed() // the next of its key may go
	return o.store.Delete(ctx, ids...)
}
