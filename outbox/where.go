package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// wherePage is how many tasks one step of RequeueWhere and DeleteWhere takes: with one
// sync, and in memory as IDs only (P7).
const wherePage = 1000

// RequeueWhere is [Outbox.Requeue] for all dead letters that f chooses; of States it
// looks at none but Dead. It goes page by page, oldest first, each durable by itself,
// and holds nothing of the store in between: the outbox works on. It returns how many
// wait again.
//
// Those that cannot be requeued are passed over and reported, as Requeue does; those that
// somebody else has requeued or deleted meanwhile are not. An error of the store ends it;
// calling it again goes on where it ended. What dies while it works may be requeued too.
func (o *Outbox) RequeueWhere(ctx context.Context, f Filter) (int, error) {
	f.States = []State{Dead}
	return o.where(ctx, f, o.Requeue)
}

// DeleteWhere is [Outbox.Delete] for all that f chooses and that is not in flight. It
// works like [Outbox.RequeueWhere]. The zero Filter is [ErrInvalid]: whoever wants to
// throw everything away says so, with States of Waiting and Dead.
func (o *Outbox) DeleteWhere(ctx context.Context, f Filter) (int, error) {
	if f.all() {
		return 0, fmt.Errorf("%w: DeleteWhere with a Filter that chooses everything: to delete all, name the states Waiting and Dead", ErrInvalid)
	}
	states := make([]State, 0, 2)
	for _, s := range [...]State{Waiting, Dead} {
		if f.Wants(s) {
			states = append(states, s)
		}
	}
	if len(states) == 0 {
		return 0, nil
	}
	f.States = states
	return o.where(ctx, f, o.Delete)
}

// where does something with all that a filter chooses, a page at a time.
func (o *Outbox) where(ctx context.Context, f Filter, do func(context.Context, ...ID) (int, error)) (done int, err error) {
	page := make([]ID, 0, wherePage)
	step := func() bool {
		n, stepErr := do(ctx, page...)
		done += n
		ended := stepErr != nil && !ofTasks(stepErr)
		err = errors.Join(err, passed(stepErr))
		page = page[:0]
		return !ended
	}
	for t, listErr := range o.Tasks(ctx, f) {
		if listErr != nil {
			return done, errors.Join(err, listErr)
		}
		if page = append(page, t.ID); len(page) == wherePage && !step() {
			return done, err
		}
	}
	if len(page) > 0 {
		step()
	}
	return done, err
}

// ofTasks reports whether all that is wrong is wrong with single tasks.
func ofTasks(err error) bool {
	return every(err, func(err error) bool {
		return slices.ContainsFunc([]error{ErrNotFound, ErrInFlight, ErrDuplicate, ErrCorrupt}, func(known error) bool { return errors.Is(err, known) })
	})
}

// passed leaves out of an error what says that a task is no longer as it was listed.
func passed(err error) (rest error) {
	every(err, func(err error) bool {
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInFlight) {
			rest = errors.Join(rest, err)
		}
		return true
	})
	return rest
}

// every has f look at each of the errors that were joined, until it returns false.
func every(err error, f func(error) bool) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !every(err, f) })
	}
	return err == nil || f(err)
}
