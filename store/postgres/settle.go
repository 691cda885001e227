package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// settleAtOnce bounds one transaction of Settle.
const settleAtOnce = 1000

// Settle ends claims. An outcome counts as long as nobody else has claimed the task since,
// even after its lease has run out: what is known to be delivered is better not delivered
// twice. The token fences off all others: they change nothing, and the error says so.
//
// It does not wait for the disk (P3): PostgreSQL writes what was settled within a moment, three times
// its wal_writer_delay at most.
func (s *Store) Settle(ctx context.Context, outcomes []outbox.Outcome) error {
	for _, o := range outcomes {
		if o.Verdict < outbox.Done || o.Verdict > outbox.Bury {
			return fmt.Errorf("postgres: settle %s: verdict %d: %w", o.ID, o.Verdict, outbox.ErrInvalid)
		}
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	var all []error
	done := map[outbox.ID]bool{}
	for len(outcomes) > 0 {
		n := min(len(outcomes), settleAtOnce)
		var step []outbox.Outcome
		for _, o := range outcomes[:n] {
			if done[o.ID] {
				all = append(all, lost(o))
				continue
			}
			done[o.ID] = true
			step = append(step, o)
		}
		var missed []error
		err := s.run(ctx, "settle", func(ctx context.Context, w *work) (err error) {
			w.lazy = true
			missed, err = w.settle(ctx, step)
			return err
		})
		if err != nil {
			return errors.Join(append(all, err)...)
		}
		all = append(all, missed...)
		outcomes = outcomes[n:]
	}
	s.notify()
	return errors.Join(all...)
}

func lost(o outbox.Outcome) error {
	return fmt.Errorf("postgres: settle %s: %w", o.ID, outbox.ErrLeaseLost)
}

// claimed is a task of which a claim is being settled.
type claimed struct {
	state    outbox.State
	class    int
	key      string
	unique   string
	spent    int64 // ns for which the Unique key stays taken
	replaced bool
	policy   outbox.KeyPolicy
	task     outbox.Task // attempts and history
}

// The rows are locked by ID, lowest first, so that two transactions never wait for each
// other crosswise.
const claimedSQL = `SELECT t.id::text, t.state, t.priority, t.key, t.unique_key, t.unique_for, t.replaced, t.key_policy, t.attempts, t.failures, t.token
	FROM goutbox_tasks t WHERE t.id = ANY ($1::uuid[]) AND t.state < 2 ORDER BY t.id FOR UPDATE`

// claims reads and locks the tasks that the outcomes are about, those whose token is right.
func (w *work) claims(ctx context.Context, outcomes []outbox.Outcome) (map[outbox.ID]*claimed, error) {
	var ids list
	tokens := map[outbox.ID]uint64{}
	for _, o := range outcomes {
		ids.id(o.ID)
		tokens[o.ID] = o.Token
	}
	found := map[outbox.ID]*claimed{}
	err := w.rows(ctx, claimedSQL, []any{ids.String()}, func(scan func(...any) error) error {
		var c claimed
		var id string
		var st, policy int
		var key, unique, failures []byte
		var token int64
		if err := scan(&id, &st, &c.class, &key, &unique, &c.spent, &c.replaced, &policy, &c.task.Attempts, &failures, &token); err != nil {
			return err
		}
		c.state, c.key, c.unique, c.policy = outbox.State(st), string(key), string(unique), outbox.KeyPolicy(policy)
		var err error
		if c.task.ID, err = parseID(id); err != nil {
			return err
		}
		if token == 0 || uint64(token) != tokens[c.task.ID] {
			return nil // fenced off
		}
		c.task.Failures, err = unpackFailures(failures)
		found[c.task.ID] = &c
		return err
	})
	return found, err
}

// settle is one step of Settle.
func (w *work) settle(ctx context.Context, outcomes []outbox.Outcome) (missed []error, err error) {
	found, err := w.claims(ctx, outcomes)
	if err != nil {
		return nil, err
	}
	var v verdicts
	for _, o := range outcomes {
		c := found[o.ID]
		if c == nil {
			missed = append(missed, lost(o))
			continue
		}
		if c.key != "" {
			v.keys.bytes([]byte(c.key))
		}
		w.ledger.at(c.state, c.class, -1)
		switch {
		case o.Verdict == outbox.Done:
			v.done.id(o.ID)
			w.ledger.delivered++
			if c.unique != "" && c.spent > 0 {
				v.spent.bytes([]byte(c.unique))
				v.spentFor.int((c.spent + 999) / 1000)
			}
			continue
		case o.Verdict != outbox.Bury && c.replaced: // it must not wait again
			v.done.id(o.ID)
			w.ledger.coalesced++
			w.dropped.Coalesced++
			continue
		}
		if o.Spends() {
			c.task.Attempts++
		}
		if o.Verdict != outbox.Release {
			c.task.Fail(o.Failure)
		}
		v.back(o, c)
		if o.Verdict == outbox.Bury {
			w.ledger.dead++
			v.died = true
		} else {
			w.ledger.waits(c.class, 1)
		}
	}
	return missed, w.write(ctx, &v)
}

// verdicts are the parameters of what Settle writes.
type verdicts struct {
	done, spent, spentFor                                     list
	id, state, delay, held, attempts, failures, reason, parks list
	keys                                                      list // whose next head is chosen, when the rest is written
	died                                                      bool
}

// back adds a task that stays.
func (v *verdicts) back(o outbox.Outcome, c *claimed) {
	v.id.id(o.ID)
	v.attempts.int(int64(c.task.Attempts))
	v.failures.text(string(packFailures(c.task.Failures)))
	v.reason.text(string(o.Reason))
	st, delay, held, parks := int64(0), micros(o.Delay), int64(0), int64(0)
	switch {
	case o.Verdict == outbox.Bury:
		st, delay = int64(outbox.Dead), -1 // as it was
		dead := outbox.Task{State: outbox.Dead, KeyPolicy: c.policy, Reason: o.Reason}
		if dead.Key = c.key; dead.ParksKey() {
			parks = 1
		}
	case o.Verdict == outbox.Release && o.Delay > 0:
		held = 1
	}
	v.state.int(st)
	v.held.int(held)
	v.parks.int(parks)
	v.delay.int(delay)
}

const (
	doneSQL  = `DELETE FROM goutbox_tasks WHERE id = ANY ($1::uuid[])`
	spentSQL = `WITH old AS (
		DELETE FROM goutbox_spent WHERE unique_key IN (SELECT unique_key FROM goutbox_spent
			WHERE until <= (SELECT clock_timestamp()) AND unique_key <> ALL ($1::bytea[])
			ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED)
	)
	INSERT INTO goutbox_spent (unique_key, until)
	SELECT k, clock_timestamp() + d * interval '1 microsecond' FROM unnest($1::bytea[], $2::bigint[]) AS u(k, d) ORDER BY k
	ON CONFLICT (unique_key) DO UPDATE SET until = excluded.until`
	backSQL = `UPDATE goutbox_tasks t SET state = o.state, attempts = o.attempts, failures = o.failures,
		due_at = CASE WHEN o.delay < 0 THEN t.due_at ELSE clock_timestamp() + o.delay * interval '1 microsecond' END,
		held = CASE WHEN o.held = 1 THEN coalesce(t.held, t.due_at) END,
		reason = CASE WHEN o.state = 2 THEN o.reason END, parks = o.parks = 1, head = t.head AND o.state < 2,
		token = 0, lease_end = NULL
	FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::smallint[], $5::integer[], $6::bytea[], $7::bytea[], $8::smallint[])
		AS o(id, state, delay, held, attempts, failures, reason, parks)
	WHERE t.id = o.id`
)

// write writes what became of locked tasks.
func (w *work) write(ctx context.Context, v *verdicts) error {
	if len(v.done.b) > 0 {
		if err := w.exec(ctx, doneSQL, v.done.String()); err != nil {
			return err
		}
	}
	if len(v.spent.b) > 0 {
		if err := w.exec(ctx, spentSQL, v.spent.String(), v.spentFor.String()); err != nil {
			return err
		}
	}
	if len(v.id.b) > 0 {
		err := w.exec(ctx, backSQL, v.id.String(), v.state.String(), v.delay.String(), v.held.String(),
			v.attempts.String(), v.failures.String(), v.reason.String(), v.parks.String())
		if err != nil {
			return err
		}
	}
	if len(v.keys.b) > 0 { // a statement of its own, since it has to see what those before it have done (P4)
		if _, err := w.electOf(ctx, v.keys); err != nil {
			return err
		}
	}
	if v.died {
		return w.trimDead(ctx)
	}
	return nil
}
