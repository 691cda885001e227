package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// rescueTimeout bounds how long Do tries to store an event that PublishFirst has
// not published, after the caller's context has ended.
const rescueTimeout = 10 * time.Second

// Do makes an event durable (P1), tries at once to publish it with p, in the
// caller's goroutine, and settles. It returns nil when the event is safe: published,
// or durable. So a failure of p is no error of Do: [Outbox.Start] retries later, or
// now if the event is not next in line for its key.
//
// ctx is that of the attempt, which ends after the publish timeout as well. If ctx
// ends during the attempt, the event stays, and the attempt counts for nothing.
//
// With a transaction in ctx (see [WithTx]) p is not called: the event is published
// by Start after the commit. Nor is it while the outbox is paused.
//
// Payload, options and errors are those of [Outbox.Enqueue]. See also
// [PublishFirst].
func (o *Outbox) Do(ctx context.Context, name string, payload any, p Publisher, opts ...EventOption) error {
	if p == nil {
		return errNoPublisher
	}
	tasks := make([]Task, 1)
	t := &tasks[0]
	if err := o.fill(t, name, payload, o.headersOf(ctx), opts); err != nil {
		return err
	}
	if TxFrom(ctx) == nil && !o.paused.Load() {
		t.Lease = o.lease(0)
		if t.publishFirst && !t.kept() {
			return o.publishFirst(ctx, tasks, p)
		}
	}
	if err := o.create(ctx, tasks); err != nil {
		return err
	}
	if t.State == InFlight {
		o.settleOne(ctx, t, o.attempt(ctx, t, p))
	}
	return nil
}

// kept reports whether an option needs the event to be stored before it is
// published.
func (t *Task) kept() bool {
	return t.Key != "" || t.Unique != "" || t.LatestOnly != "" || t.Delay > 0
}

// publishFirst stores only what could not be published, as an event that has its
// first attempt behind it.
func (o *Outbox) publishFirst(ctx context.Context, tasks []Task, p Publisher) error {
	t := &tasks[0]
	t.ID, t.CreatedAt = ulid.Make(), time.Now().Round(0).UTC()
	r := o.attempt(ctx, t, p)
	if r.class == delivered {
		o.ended(ctx, t, r, Outcome{Verdict: Done})
		return nil
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), rescueTimeout)
		defer cancel()
	}
	if err := o.create(ctx, tasks); err != nil {
		return fmt.Errorf("%w (not published either: %s)", err, r.text)
	}
	if t.State == InFlight {
		o.settleOne(ctx, t, r)
	} else { // it has expired, or waits for a Start: the attempt was for nothing
		o.ended(ctx, t, r, Outcome{Verdict: Release})
	}
	return nil
}

// attempt publishes one event in the caller's goroutine.
func (o *Outbox) attempt(ctx context.Context, t *Task, p Publisher) result {
	var limit timeLimit
	now := time.Now()
	limit.start(ctx, now, o.publishTimeout)
	defer limit.stop()
	o.own.begins(1, now)
	defer o.own.ends(1)
	e := t.Event
	e.Attempt = t.Attempts + 1
	r := classify(p.contained(&limit, e))
	r.took = limit.took()
	if ctx.Err() != nil && (r.class == refused || r.class == unavailable) {
		r.class = cut
	}
	return r
}

// settleOne ends the claim of a task that Do has tried.
func (o *Outbox) settleOne(ctx context.Context, t *Task, r result) {
	out := o.outcome(t, r)
	o.ended(ctx, t, r, out)
	o.settleLate(ctx, []Outcome{out})
	o.changed() // a retry is due some time, or the next of its key now
}

// ended counts and reports an attempt of Do.
func (o *Outbox) ended(ctx context.Context, t *Task, r result, out Outcome) {
	if out.Verdict == Done {
		o.own.took(1)
	} else {
		o.own.failed(r, out.Verdict)
	}
	o.report(ctx, t, r, out)
	if len(o.observers) > 0 {
		o.attempted(r.attempt(t, out, o.own.name, r.took))
	}
}
