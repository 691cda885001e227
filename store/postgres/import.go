package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Import implements [outbox.Importer], in one transaction, as durable as that of Create.
// Of CreatedAt it keeps the microseconds. In a transaction of the application it is
// [outbox.ErrTxUnsupported].
func (s *Store) Import(ctx context.Context, tasks []outbox.Task) (int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	if outbox.TxFrom(ctx) != nil {
		return 0, fmt.Errorf("postgres: import: %w", outbox.ErrTxUnsupported)
	}
	if err := outbox.CheckImport(tasks); err != nil || len(tasks) == 0 {
		return 0, err
	}
	if err := tooLarge(tasks); err != nil {
		return 0, fmt.Errorf("postgres: import: %w", err)
	}
	n := 0
	err := s.run(ctx, "import", func(ctx context.Context, w *work) (err error) {
		n, err = w.takeOver(ctx, tasks)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.notify()
	return n, nil
}

func isDead(t outbox.Task) bool { return t.State == outbox.Dead }

// takeOver is Import within a transaction. It takes the same locks as create, for what
// waits: a dead letter holds no key and is in no order.
func (w *work) takeOver(ctx context.Context, tasks []outbox.Task) (int, error) {
	if err := w.lockAll(ctx, w.s.importLocks(tasks)); err != nil {
		return 0, err
	}
	fresh, err := w.passOver(ctx, tasks)
	if err != nil || len(fresh) == 0 {
		return 0, err
	}
	b, err := newBatch(slices.DeleteFunc(slices.Clone(fresh), isDead))
	if err != nil {
		return 0, err
	}
	b.presets, b.sole = nil, nil // passOver has looked at them
	if err := w.refuse(ctx, b); err != nil {
		return 0, err
	}
	if len(b.latests) > 0 {
		if err := w.replace(ctx, b.latests); err != nil {
			return 0, err
		}
	}
	if n := b.stays(); n > 0 {
		if err := w.makeRoom(ctx, n, Reject); err != nil {
			return 0, err
		}
	}
	outdone := map[outbox.ID]bool{}
	for i, gone := range b.replaced {
		if gone {
			outdone[b.tasks[i].ID] = true
		}
	}
	rows := slices.DeleteFunc(slices.Clone(fresh), func(t outbox.Task) bool { return outdone[t.ID] })
	if err := w.insertImported(ctx, rows); err != nil {
		return 0, err
	}
	w.ledger.accepted += int64(len(fresh))
	w.ledger.coalesced += int64(len(outdone))
	w.dropped.Coalesced += uint64(len(outdone))
	w.proof = uuidOf(rows[len(rows)-1].ID)
	if len(fresh) > len(b.tasks) {
		if err := w.trimDead(ctx); err != nil {
			return 0, err
		}
	}
	return len(fresh), w.announce(ctx)
}

// importLocks are the locks of create for what waits.
func (s *Store) importLocks(tasks []outbox.Task) (numbers []int64) {
	for _, t := range tasks {
		if isDead(t) {
			continue
		}
		for kind, text := range map[string]string{lockKey: t.Key, lockUnique: t.Unique, lockLatest: t.LatestOnly} {
			if text != "" {
				numbers = append(numbers, s.lockNumber(kind, text))
			}
		}
	}
	return numbers
}

const passOverSQL = `SELECT id::text FROM goutbox_tasks WHERE id = ANY ($3::uuid[])
	UNION ALL SELECT o.id::text ` + outdoneSQL

// passOver returns the tasks that are not here yet, nor outdone by a newer one of their
// LatestOnly key.
func (w *work) passOver(ctx context.Context, tasks []outbox.Task) ([]outbox.Task, error) {
	var ids list
	var sole []outbox.Task
	for _, t := range tasks {
		if ids.id(t.ID); !isDead(t) && t.LatestOnly != "" {
			sole = append(sole, t)
		}
	}
	known := map[outbox.ID]bool{}
	latests, below := soleLists(sole)
	err := w.rows(ctx, passOverSQL, []any{latests, below, ids.String()}, func(scan func(...any) error) error {
		var text string
		if err := scan(&text); err != nil {
			return err
		}
		id, err := parseID(text)
		known[id] = true
		return err
	})
	return slices.DeleteFunc(slices.Clone(tasks), func(t outbox.Task) bool { return known[t.ID] }), err
}

// importSQL is insertSQL for tasks that have been accepted elsewhere: nothing is claimed. Interval
// arithmetic is in double precision, so a time has its seconds apart.
const importSQL = `
WITH clock AS MATERIALIZED (
	SELECT clock_timestamp() AS now
), input AS MATERIALIZED (
	SELECT * FROM unnest($2::uuid[], $3::text[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::integer[],
		$9::integer[], $10::integer[], $11::integer[], $12::bigint[], $13::bigint[], $14::bytea[], $15::bigint[],
		$16::bytea[], $17::smallint[], $18::smallint[], $19::bytea[], $20::bigint[], $21::bigint[], $22::bigint[],
		$23::bigint[], $24::bigint[], $25::smallint[], $26::bytea[], $27::boolean[])
	AS u(id, random, name, key, headers, content_type, place, size, attempts, max_attempts, delay, ttl, unique_key,
		unique_for, latest_key, priority, key_policy, failures, retry_base, retry_max, lease, created, left_us, state, reason, parks)
)
INSERT INTO goutbox_tasks (id, name, key, headers, content_type, payload, created_at, state, head, attempts,
	max_attempts, due_at, expires_at, unique_key, unique_for, latest_key, priority, key_policy, failures,
	reason, parks, retry_base, retry_max)
SELECT i.id, i.name, i.key, i.headers, i.content_type, substr($1::bytea, i.place, i.size),
	timestamptz 'epoch' + (i.created / 1000000) * interval '1 second' + (i.created % 1000000) * interval '1 microsecond', i.state,
	i.state = 0 AND (i.key IS NULL OR row_number() OVER (PARTITION BY i.key, i.state ORDER BY i.id) = 1
		AND (SELECT true FROM goutbox_tasks a WHERE a.key = i.key AND a.state < 2 LIMIT 1) IS NULL),
	i.attempts, i.max_attempts, now + i.left_us * interval '1 microsecond',
	CASE WHEN i.ttl > 0 THEN now + i.ttl * interval '1 microsecond' END, i.unique_key, i.unique_for, i.latest_key,
	i.priority, i.key_policy, i.failures, i.reason, i.parks, i.retry_base, i.retry_max
FROM input i, clock
RETURNING key, state, priority, head`

// insertImported writes tasks for which everything is ready.
func (w *work) insertImported(ctx context.Context, tasks []outbox.Task) error {
	b := &batch{tasks: tasks, replaced: make([]bool, len(tasks))}
	var created, left, state, reason, parks list
	for _, t := range tasks {
		created.int(max(t.CreatedAt.UnixMicro(), time.Time{}.UnixMicro()))
		left.int(microsLeft(t.Delay))
		if !isDead(t) {
			t.State, t.Reason = outbox.Waiting, ""
		}
		state.int(int64(t.State))
		reason.text(string(t.Reason))
		parks.word(map[bool]string{true: "true", false: "false"}[t.ParksKey()])
	}
	blob, lists := b.args(0)
	args := append([]any{blob}, lists...)
	args = append(args, created.String(), left.String(), state.String(), reason.String(), parks.String())
	err := w.rows(ctx, importSQL, args, func(scan func(...any) error) error {
		var key []byte
		var state, class int
		var head bool
		if err := scan(&key, &state, &class, &head); err != nil {
			return err
		}
		if w.ledger.at(outbox.State(state), class, 1); !head && outbox.State(state) == outbox.Waiting {
			w.mark(string(key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.exec(ctx, passSQL, high(tasks[len(tasks)-1].ID))
}
