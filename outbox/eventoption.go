package outbox

import "time"

// EventOption changes how one event is kept and published. Zero and negative
// values fall back to the default. When two options speak of the same thing, the
// later one holds.
type EventOption func(*Task)

// WithMaxAttempts says how many refusals end the event as a dead letter; 3 by
// default. An unreachable destination is no refusal (P6).
func WithMaxAttempts(n int) EventOption {
	return func(t *Task) { t.MaxAttempts = n }
}

// WithKey puts the event in line: events with one key are published one at a
// time, in the order they were accepted (P4). An event that is retried holds up
// those behind it; [WithKeyPolicy] says for how long. At most [MaxKeyBytes] bytes.
func WithKey(key string) EventOption {
	return func(t *Task) { t.Key = key }
}

// WithKeyPolicy says what the event's death means for those behind it in its key;
// [BlockKey] by default. Without a Key it makes no difference.
func WithKeyPolicy(p KeyPolicy) EventOption {
	return func(t *Task) { t.KeyPolicy = p }
}

// WithPriority says in which class the event leaves; [Normal] by default. It says nothing
// of what a quota drops.
func WithPriority(p Priority) EventOption {
	return func(t *Task) { t.Priority = p }
}

// WithEventBackoff gives the event a backoff of its own, [ExponentialBackoff] with
// these bounds, in place of that of [WithBackoff]. It is stored with the event.
func WithEventBackoff(base, max time.Duration) EventOption {
	return func(t *Task) { t.RetryBase, t.RetryMax = base, max }
}

// WithDelay keeps the event back for d after it was accepted. The delay is
// measured on the store's clock, which a jump of the wall clock does not move
// (P12).
func WithDelay(d time.Duration) EventOption {
	return func(t *Task) { t.Delay = d }
}

// WithDueAt keeps the event back until the wall clock shows at. It is turned into
// a delay when the event is accepted: a clock that is set right later moves the
// event no more (P12). The zero time and the past mean now.
func WithDueAt(at time.Time) EventOption {
	return func(t *Task) {
		t.Delay = 0
		if !at.IsZero() {
			t.Delay = time.Until(at)
		}
	}
}

// WithTTL drops the event if it still waits so long after it was accepted. An
// attempt that is under way then is not cut short. Such drops are counted
// ([Dropped.Expired]).
//
// The time is measured on the store's clock, like a delay, and no jump of the wall
// clock lets an event expire (P12). A store on disk counts the time between two runs
// if the wall clock says that it was half a year at most; a longer break, or a clock
// that was set back, counts as nothing, and the event then lives the rest of its time
// while the store is open.
func WithTTL(d time.Duration) EventOption {
	return func(t *Task) { t.TTL = d }
}

// WithUnique refuses the event with [ErrDuplicate] while another one with this
// key waits or is in flight. At most [MaxKeyBytes] bytes.
func WithUnique(key string) EventOption {
	return func(t *Task) { t.Unique = key }
}

// WithUniqueFor keeps the key of [WithUnique] taken for d after the event was
// delivered: a double click, or a message that comes twice, is refused even when the
// first was quick. One that dies or is dropped frees the key at once. The time is
// measured on the store's clock, like a TTL: after a restart the key may stay taken for
// longer. On disk each such key takes some hundred bytes until then, which no quota counts;
// of what is delivered while the disk is full, keys are free at once (P9), and so they are
// in a store to which [Copy] has moved what was left.
func WithUniqueFor(d time.Duration) EventOption {
	return func(t *Task) { t.UniqueFor = d }
}

// WithLatestOnly lets the event take the place of the one with this key that
// waits, if there is one: for state of which only the last value matters. What it
// replaces is counted ([Dropped.Coalesced]). At most [MaxKeyBytes] bytes.
func WithLatestOnly(key string) EventOption {
	return func(t *Task) { t.LatestOnly = key }
}

// WithHeader adds a header, or replaces the one of that name. Names and values of
// all headers together have at most [MaxHeaders] bytes.
func WithHeader(name, value string) EventOption {
	return func(t *Task) {
		if t.Headers == nil {
			t.Headers = make(map[string]string)
		}
		t.Headers[name] = value
	}
}

// PublishFirst has [Outbox.Do] publish before it stores, and store only what could
// not be published: no disk write as long as publishing works.
//
// It has a hole: if the process dies during that first attempt, the event is
// lost, or was delivered with nobody knowing. Use it for events that can be made
// again.
//
// It counts for Do only, and not where it would break a promise: Do stores first
// all the same if the event has a Key (it would overtake), Unique, LatestOnly or a
// delay, or if ctx carries a transaction.
func PublishFirst() EventOption {
	return func(t *Task) { t.publishFirst = true }
}
