package postgres

import (
	"context"
	"database/sql"

	"github.com/goutbox/goutbox/outbox"
)

// insertSQL writes a batch and says what became of it. A task of a key becomes its head if
// nothing else of the key is there; otherwise, and always in a transaction of the application,
// which may see less than there is, the next sweep chooses.
//
// All payloads come as one value, since arrays come as text, twice as long.
const insertSQL = `
WITH clock AS MATERIALIZED (
	SELECT clock_timestamp() AS now
), input AS MATERIALIZED (
	SELECT *, coalesce(preset, (lpad(to_hex(goutbox_next($2)), 16, '0') || random)::uuid) AS id
	FROM unnest($6::uuid[], $7::text[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::integer[],
		$13::integer[], $14::integer[], $15::integer[], $16::bigint[], $17::bigint[], $18::bytea[], $19::bigint[],
		$20::bytea[], $21::smallint[], $22::smallint[], $23::bytea[], $24::bigint[], $25::bigint[], $26::bigint[])
	WITH ORDINALITY AS u(preset, random, name, key, headers, content_type, place, size, attempts, max_attempts, delay,
		ttl, unique_key, unique_for, latest_key, priority, key_policy, failures, retry_base, retry_max, lease, ord)
), placed AS MATERIALIZED (
	SELECT i.ord, i.id, i.lease, coalesce($5::timestamptz, now + i.delay * interval '1 microsecond') AS due_at,
		i.key IS NULL OR NOT $1::boolean
			AND row_number() OVER (PARTITION BY i.key, i.lease < 0 ORDER BY i.id) = 1
			AND (SELECT true FROM goutbox_tasks a WHERE a.key = i.key AND a.state < 2 LIMIT 1) IS NULL AS head,
		i.key IS NOT NULL AND (SELECT true FROM goutbox_tasks p WHERE p.key = i.key AND p.parks AND p.id < i.id LIMIT 1) IS NOT NULL AS parked
	FROM input i, clock
), decided AS MATERIALIZED (
	SELECT p.*, c.claimed, CASE WHEN c.claimed THEN nextval('goutbox_tokens') ELSE 0 END AS token
	FROM placed p, LATERAL (SELECT p.lease > 0 AND p.head AND NOT p.parked AND NOT $1::boolean AND p.due_at <= clock.now AS claimed FROM clock) c
), written AS (
	INSERT INTO goutbox_tasks (id, name, key, headers, content_type, payload, created_at, state, head, attempts,
		max_attempts, due_at, expires_at, unique_key, unique_for, latest_key, priority, key_policy, failures,
		retry_base, retry_max, token, lease_end, owner)
	SELECT i.id, i.name, i.key, i.headers, i.content_type, substr($4::bytea, i.place, i.size), now,
		CASE WHEN d.claimed THEN 1 ELSE 0 END, d.head, i.attempts, i.max_attempts, d.due_at,
		CASE WHEN i.ttl > 0 THEN now + i.ttl * interval '1 microsecond' END, i.unique_key, i.unique_for, i.latest_key,
		i.priority, i.key_policy, i.failures, i.retry_base, i.retry_max, d.token,
		CASE WHEN d.claimed THEN now + d.lease * interval '1 microsecond' END,
		CASE WHEN d.claimed THEN $3::bigint END
	FROM input i JOIN decided d USING (ord), clock
	WHERE d.lease >= 0
	ORDER BY i.ord
)
SELECT i.id::text, now, d.due_at, CASE WHEN i.ttl > 0 THEN now + i.ttl * interval '1 microsecond' END,
	CASE WHEN d.claimed THEN 1 ELSE 0 END, d.token, d.head
FROM input i JOIN decided d USING (ord), clock ORDER BY i.ord`

const passSQL = `SELECT goutbox_next($1)`

// insert writes a batch for which everything is ready.
func (w *work) insert(ctx context.Context, b *batch) error {
	b.made = b.made[:0]
	if b.above > 0 { // IDs go on above it, whether or not one is wanted here
		if err := w.exec(ctx, passSQL, int64(b.above)); err != nil {
			return err
		}
	}
	blob, lists := b.args(w.s.lease)
	args := append([]any{w.foreign, int64(b.above), w.s.owner, blob, moment(b.at)}, lists...)
	err := w.rows(ctx, insertSQL, args, func(scan func(...any) error) (err error) {
		var m made
		var id string
		var st int
		var expires sql.NullTime
		if err := scan(&id, &m.created, &m.due, &expires, &st, &m.token, &m.head); err != nil {
			return err
		}
		if m.id, err = parseID(id); err != nil {
			return err
		}
		m.created, m.due, m.state = m.created.UTC(), m.due.UTC(), outbox.State(st)
		if expires.Valid {
			m.expires = expires.Time.UTC()
		}
		b.made = append(b.made, m)
		return nil
	})
	if err != nil {
		return err
	}
	for i, m := range b.made {
		t := &b.tasks[i]
		w.ledger.accepted++
		if b.replaced[i] {
			w.ledger.coalesced++
			w.dropped.Coalesced++
			continue
		}
		w.ledger.at(m.state, int(classOf(t.Priority)), 1)
		if !m.head {
			w.mark(t.Key)
		}
	}
	return nil
}
