package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// maxWait bounds delays and times-to-live. Beyond the year 2262 a due time has no
// place in 64 bits of nanoseconds; "for ever" must not turn into "now".
const maxWait = 100 * 365 * 24 * time.Hour

// Enqueue accepts an event, to be published by [Outbox.Start]. When it returns nil
// the event is durable (P1), and published after a restart if need be.
//
// The payload is encoded now: a []byte is taken as it is, with content type
// application/octet-stream; json.RawMessage is taken as it is, and everything else
// goes through encoding/json, with content type application/json. A nil payload is
// the JSON value null. The memory of the payload is the caller's again when the
// call returns.
//
// If ctx carries a transaction (see [WithTx]), the event becomes durable and
// visible when that commits.
//
// Errors: [ErrInvalid], [ErrTooLarge], and those of [Store] Create. With
// [ErrOutcomeUnknown] comes the ID that the event has if it was accepted, as far as
// the store knows it; with other errors nothing was accepted.
func (o *Outbox) Enqueue(ctx context.Context, name string, payload any, opts ...EventOption) (ID, error) {
	tasks := make([]Task, 1)
	if err := o.fill(&tasks[0], name, payload, o.headersOf(ctx), opts); err != nil {
		return ID{}, err
	}
	err := o.create(ctx, tasks)
	if err != nil && !errors.Is(err, ErrOutcomeUnknown) {
		return ID{}, err
	}
	return tasks[0].ID, err
}

// EnqueueBatch accepts several events with one sync, all or none, and returns
// their IDs in the same order.
//
// Of each event Name, Key, Headers, ContentType and Payload count. Payload is
// encoded already; ContentType is application/octet-stream if empty. The IDs
// given are ignored, so that an event received can be passed on. Options apply to
// every event; they come after what the event says itself, [WithDefaults] before.
// No events: nil, nil.
func (o *Outbox) EnqueueBatch(ctx context.Context, events []Event, opts ...EventOption) ([]ID, error) {
	if len(events) == 0 {
		return nil, nil
	}
	tasks := make([]Task, len(events))
	headers := o.headersOf(ctx)
	for i, e := range events {
		if err := o.fillFrom(&tasks[i], e, headers, opts); err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i, len(events), err)
		}
	}
	err := o.create(ctx, tasks)
	if err != nil && !errors.Is(err, ErrOutcomeUnknown) {
		return nil, err
	}
	ids := make([]ID, len(tasks))
	for i := range tasks {
		ids[i] = tasks[i].ID
	}
	return ids, err
}

// create hands tasks to the store and wakes who publishes.
func (o *Outbox) create(ctx context.Context, tasks []Task) error {
	err := o.store.Create(ctx, tasks)
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		o.changed()
	}
	if err == nil {
		o.enqueued(ctx, tasks)
	}
	return err
}

// fill makes the task of Enqueue and Do.
func (o *Outbox) fill(t *Task, name string, payload any, headers map[string]string, opts []EventOption) (err error) {
	t.Name = name
	if t.Payload, t.ContentType, err = encode(payload); err != nil {
		return err
	}
	apply(t, o.defaults)
	apply(t, opts)
	t.addHeaders(headers)
	return o.finish(t)
}

// fillFrom makes the task of one event of EnqueueBatch: defaults first, then what
// the event says, then the options of the call.
func (o *Outbox) fillFrom(t *Task, e Event, headers map[string]string, opts []EventOption) error {
	t.Name, t.ContentType, t.Payload = e.Name, typeBytes, e.Payload
	apply(t, o.defaults)
	if e.ContentType != "" {
		t.ContentType = e.ContentType
	}
	if e.Key != "" {
		t.Key = e.Key
	}
	if t.Headers == nil {
		t.Headers = maps.Clone(e.Headers) // an option may add to it
	} else {
		maps.Copy(t.Headers, e.Headers)
	}
	apply(t, opts)
	t.addHeaders(headers)
	return o.finish(t)
}

func apply(t *Task, opts []EventOption) {
	for _, set := range opts {
		if set != nil {
			set(t)
		}
	}
}

// finish brings what options have set into bounds, takes back what is not theirs
// to set, and checks the limits.
func (o *Outbox) finish(t *Task) error {
	t.MaxAttempts = positive(t.MaxAttempts, defaultMaxAttempts)
	t.Delay = min(max(t.Delay, 0), maxWait)
	t.TTL = min(max(t.TTL, 0), maxWait)
	t.UniqueFor = min(max(t.UniqueFor, 0), maxWait)
	t.RetryBase, t.RetryMax = min(max(t.RetryBase, 0), maxWait), min(max(t.RetryMax, 0), maxWait)
	if t.RetryBase > 0 || t.RetryMax > 0 {
		t.RetryBase = positive(t.RetryBase, defaultBackoffBase)
		t.RetryMax = max(positive(t.RetryMax, defaultBackoffMax), t.RetryBase)
	}
	if t.Unique == "" {
		t.UniqueFor = 0
	}
	t.Priority, t.KeyPolicy = t.Priority.valid(), t.KeyPolicy.valid()
	t.ID, t.Attempt, t.Attempts, t.Failures, t.Token, t.Lease = ID{}, 0, 0, nil, 0, 0

	switch {
	case t.Name == "":
		return fmt.Errorf("%w: the name is empty", ErrInvalid)
	case strings.HasPrefix(t.Name, ownNames):
		return fmt.Errorf("%w: the name %q begins with %q, as only the outbox's own do", ErrInvalid, t.Name, ownNames)
	}
	headers := 0
	for name, value := range t.Headers {
		if name == "" {
			return fmt.Errorf("%w: a header's name is empty", ErrInvalid)
		}
		headers += len(name) + len(value)
	}
	for _, l := range [...]struct {
		what      string
		size, max int
	}{
		{"name", len(t.Name), MaxNameBytes},
		{"key", len(t.Key), MaxKeyBytes},
		{"unique key", len(t.Unique), MaxKeyBytes},
		{"latest-only key", len(t.LatestOnly), MaxKeyBytes},
		{"content type", len(t.ContentType), MaxNameBytes},
		{"headers", headers, MaxHeaders},
		{"payload", len(t.Payload), o.maxPayload},
	} {
		if l.size > l.max {
			return fmt.Errorf("%w: %s of %d bytes, the limit is %d", ErrTooLarge, l.what, l.size, l.max)
		}
	}
	return nil
}
