package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Copied says what [Copy] has done.
type Copied struct {
	Events uint64 // that have moved: they are in the target, durably, and no longer in the source
	Dead   uint64 // of them, dead letters
	Known  uint64 // of them, those that the target had already, or had a newer LatestOnly event for
	Left   uint64 // that the target has refused, or that wait behind such a one; not what Copy did not come to
}

// Copy moves all events from one store to another: from the disk to a database server, to
// memory in a test, or back. Both must be open, and be an [Exporter] and an [Importer].
//
//	copied, err := outbox.Copy(ctx, old, store)
//
// Everything that waits or is dead comes along as it is: IDs, order, also that of keys,
// attempts and last errors, retry times, delays and times to live, priorities, policies,
// headers, Unique and LatestOnly keys, dead letters and the keys that they park, gap
// events. Times go on running on the target's clock.
//
// An event is deleted from the source only after it is durable in the target, some hundred
// at a time, so at each moment each event is in one of them, and for a short time in both.
// Whatever ends Copy, a SIGKILL too, call it again: it goes on where it was, and nothing is
// lost or accepted twice. So a program may call it at each start, before it publishes; once
// the source is empty that costs next to nothing. Publish from the target when Copy has
// returned nil: what was in both when it was killed would be published, and then copied
// again. To go back, copy back. A copy of the old files is a backup like any other.
//
// Nobody may publish from the source meanwhile: Copy returns [ErrInFlight] if something is
// in flight there, and an error if somebody takes events out of it. The source may accept:
// what it had when Copy was called has moved when Copy returns nil, and what it has
// accepted since may have; call it again for the rest, when it accepts no more. The target
// may hold events, accept and publish. Those of one key are published in the order of
// their IDs, so let the target accept for a key when its older events are there.
//
// If the target is full, by a quota, whatever its policy, or because its disk is, Copy
// moves what fits, and returns [ErrFull] or [ErrDiskFull].
//
// An event that the target refuses stays in the source, and with it all of its key behind
// it (P4): because its Unique key is taken by another one ([ErrDuplicate]), because it is too
// large there ([ErrTooLarge]), or damaged ([ErrCorrupt]). The others move, and the error
// tells of the first of them. Delete them from the source, or have the target deliver what
// is in the way, and call Copy again.
//
// Both ledgers stay true (P5): the target counts what moves as accepted, and dead letters as
// dead; the source counts it as DroppedBy.Deleted. Counters of what is gone do not move.
// Neither do Unique keys that are taken since a delivery: after a copy, UniqueFor knows
// only of deliveries from the target.
//
// Of the options of [New], [WithGapMarkers] counts: with it what the source has dropped, and
// no gap has told of, is told by an event in the target. Without, the source keeps it.
func Copy(ctx context.Context, from, to Store, opts ...Option) (Copied, error) {
	c := copying{from: from, to: to, held: map[string]bool{}}
	var able, can bool
	c.exporter, able = from.(Exporter)
	c.importer, can = to.(Importer)
	switch {
	case !able:
		return c.Copied, fmt.Errorf("copy: nothing can be copied out of %T: it is no Exporter: %w", from, ErrInvalid)
	case !can:
		return c.Copied, fmt.Errorf("copy: nothing can be copied into %T: it is no Importer: %w", to, ErrInvalid)
	case reflect.TypeOf(from).Comparable() && from == to:
		return c.Copied, fmt.Errorf("copy: source and target are the same store: %w", ErrInvalid)
	}
	if err := c.lands(ctx); err != nil {
		return c.Copied, err
	}
	err := c.pass(ctx, Filter{})
	if err == nil && configure(opts).gaps {
		err = c.tell(ctx)
	}
	return c.Copied, errors.Join(err, c.why())
}

// How much moves in one step, and is in both stores if that is cut short; of how many events
// that stay, or keys that wait behind them, Copy keeps track (P7).
const (
	copyTasks = 256
	copyBytes = 1 << 20 // unless one event alone has more
	copyNoted = 10
	copyKeys  = 10_000
)

// copying is a call of Copy.
type copying struct {
	Copied
	from, to Store
	exporter Exporter
	importer Importer
	began    bool            // something has moved: these are two stores
	held     map[string]bool // ordering keys of which an event stays
	noted    []error         // why the first of them stay
}

// lands refuses a source of which something is in flight. A store may notice by a claim
// alone that a lease has ended, of a publisher that was killed, so it makes one of nothing.
func (c *copying) lands(ctx context.Context) error {
	st, err := c.from.Stats(ctx)
	if err == nil && st.InFlight > 0 {
		_, err = c.from.Claim(ctx, ClaimRequest{Max: 1, Match: func(string) bool { return false }})
		if err == nil {
			st, err = c.from.Stats(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("copy: source: %w", err)
	}
	if st.InFlight > 0 {
		return fmt.Errorf("copy: %d events of the source are being published: %w", st.InFlight, ErrInFlight)
	}
	return nil
}

// pass moves all that a filter chooses, oldest first.
func (c *copying) pass(ctx context.Context, f Filter) error {
	var batch []Task
	bytes := 0
	for t, err := range c.exporter.Export(ctx, f) {
		if err != nil {
			return fmt.Errorf("copy: source: %w", err)
		}
		if t.State == InFlight {
			return fmt.Errorf("copy: event %s of the source is being published: %w", t.ID, ErrInFlight)
		}
		size := len(t.Payload)
		if len(batch) == copyTasks || len(batch) > 0 && bytes+size > copyBytes {
			if err := c.move(ctx, batch); err != nil {
				return err
			}
			batch, bytes = batch[:0], 0
		}
		batch, bytes = append(batch, t), bytes+size
	}
	return c.move(ctx, batch)
}

// move moves some tasks. If the target refuses them together, it tries the halves: so the
// others move, and the order stays.
func (c *copying) move(ctx context.Context, batch []Task) error {
	batch = slices.DeleteFunc(batch, c.waitsBehind)
	if len(batch) == 0 {
		return nil
	}
	n, err := c.importer.Import(ctx, batch)
	if err == nil {
		return c.remove(ctx, batch, n)
	}
	mayFit := errors.Is(err, ErrFull)
	for _, refusal := range [...]error{ErrDuplicate, ErrTooLarge, ErrInvalid, ErrCorrupt} {
		if !errors.Is(err, refusal) || mayFit {
			continue
		}
		if mayFit = true; len(batch) == 1 {
			return c.leave(&batch[0], err)
		}
	}
	if !mayFit || len(batch) == 1 {
		return fmt.Errorf("copy: target: %w", err)
	}
	half := len(batch) / 2
	rest := slices.Clone(batch[half:])
	if err := c.move(ctx, batch[:half]); err != nil {
		return err
	}
	return c.move(ctx, rest)
}

// waitsBehind reports whether a task stays because one of its key does. A dead letter is
// in no order, unless it parks the key.
func (c *copying) waitsBehind(t Task) bool {
	behind := t.Key != "" && c.held[t.Key] && (t.State != Dead || t.ParksKey())
	if behind {
		c.Left++
	}
	return behind
}

// leave notes that a task stays in the source.
func (c *copying) leave(t *Task, why error) error {
	c.Left++
	if len(c.noted) < copyNoted {
		c.noted = append(c.noted, fmt.Errorf("event %s %q stays: %w", t.ID, t.Name, why))
	}
	if t.Key != "" && (t.State != Dead || t.ParksKey()) {
		if c.held[t.Key] = true; len(c.held) > copyKeys {
			return fmt.Errorf("copy: events of more than %d keys cannot be copied: %w", copyKeys, why)
		}
	}
	return nil
}

// why says why tasks stay, or nil.
func (c *copying) why() error {
	if c.Left == 0 {
		return nil
	}
	return fmt.Errorf("copy: %d events stay in the source, with those behind them in their keys: %w", c.Left, errors.Join(c.noted...))
}

// remove deletes from the source what is durable in the target, of which n were not there
// before.
func (c *copying) remove(ctx context.Context, batch []Task, n int) error {
	ids := make([]ID, len(batch))
	dead := 0
	for i := range batch {
		if ids[i] = batch[i].ID; batch[i].State == Dead {
			dead++
		}
	}
	rest := ids
	if n == 0 && !c.began {
		if err := c.probe(ctx, batch[0]); err != nil {
			return err
		}
		rest = ids[1:]
	}
	c.began = true
	c.Events += uint64(len(batch))
	c.Dead += uint64(dead)
	c.Known += uint64(len(batch) - n)
	if _, err := c.from.Delete(ctx, rest...); err != nil {
		return fmt.Errorf("copy: source, from which somebody takes events that are in the target by now: %w", err)
	}
	return nil
}

// probe deletes the first task from the source, and makes sure that the target has it
// still. That all of the first batch was there already may be so because Copy was cut short;
// it may also be because both stores are one, in a database that was opened twice, and
// would lose everything.
func (c *copying) probe(ctx context.Context, first Task) error {
	if _, err := c.from.Delete(ctx, first.ID); err != nil {
		return fmt.Errorf("copy: source: %w", err)
	}
	n, err := c.importer.Import(context.WithoutCancel(ctx), []Task{first})
	switch {
	case err != nil:
		return fmt.Errorf("copy: target: %w", err)
	case n > 0:
		return fmt.Errorf("copy: what is deleted from the source disappears from the target: they are the same: %w", ErrInvalid)
	}
	return nil
}

// tell has the source make events of what no gap has told of, and moves them: one for each
// reason, and another one if one was waiting already.
func (c *copying) tell(ctx context.Context) error {
	gaps := func(name string) bool { return name == GapName }
	for {
		got, err := c.from.Claim(ctx, ClaimRequest{Max: len(GapReasons), Gaps: true, Match: gaps})
		if err != nil {
			return fmt.Errorf("copy: source: %w", err)
		}
		if len(got.Tasks) == 0 {
			return nil
		}
		var back []Outcome
		for _, t := range got.Tasks {
			back = append(back, Outcome{ID: t.ID, Token: t.Token, Verdict: Release})
		}
		if err := c.from.Settle(ctx, back); err != nil {
			return fmt.Errorf("copy: source: %w", err)
		}
		moved := c.Events
		if err := c.pass(ctx, Filter{Name: GapName}); err != nil || c.Events == moved {
			return err
		}
	}
}
