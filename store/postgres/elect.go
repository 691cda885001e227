package postgres

import "context"

const (
	takeKeysSQL = `WITH taken AS (
		DELETE FROM goutbox_marks WHERE seq IN (SELECT seq FROM goutbox_marks WHERE kind = 0 ORDER BY seq LIMIT $1)
		RETURNING key
	) SELECT DISTINCT key FROM taken`

	// LIMIT has the planner ask the index for each key, whatever it thinks of the table.
	firstOfKey = `(SELECT b.id FROM goutbox_tasks b WHERE b.key = k AND b.state = 0 ORDER BY b.id LIMIT 1)`

	// A head that waits gives way to an older one, which was requeued or has an ID of
	// before. One that somebody is claiming stays.
	giveWaySQL = `WITH old AS MATERIALIZED (
		SELECT h.id FROM unnest($1::bytea[]) k, LATERAL (
			SELECT t.id FROM goutbox_tasks t WHERE t.key = k AND t.head AND t.state = 0 AND t.id > ` + firstOfKey + `
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) h
	)
	UPDATE goutbox_tasks t SET head = false FROM old WHERE t.id = old.id`

	// One that somebody takes away at this moment is not there to be chosen; then, and where
	// a head could not give way, the key is marked once more.
	electSQL = `WITH best AS MATERIALIZED (
		SELECT k, ` + firstOfKey + ` AS id
		FROM unnest($1::bytea[]) k WHERE (SELECT true FROM goutbox_tasks h WHERE h.key = k AND h.head LIMIT 1) IS NULL
	), chosen AS (
		UPDATE goutbox_tasks t SET head = true FROM best WHERE t.id = best.id AND t.state = 0 RETURNING t.id
	)
	INSERT INTO goutbox_marks (kind, key)
	SELECT 0, k FROM best WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM chosen WHERE chosen.id = best.id)
	UNION ALL
	SELECT 0, k FROM unnest($1::bytea[]) k
	WHERE (SELECT t.id FROM goutbox_tasks t WHERE t.key = k AND t.head AND t.state = 0 LIMIT 1) > ` + firstOfKey
)

// elect chooses the heads of the keys that are marked (P4): the oldest task that waits,
// unless one of the key is in flight. Whoever takes a head away, or brings a task that is none, leaves a
// mark in the same transaction, so a key with tasks has a head or a mark.
//
// The statements are apart so that each sees what was committed before it; the index of
// heads refuses a second one, whatever happens between them, and then the sweep is tried again.
func (w *work) elect(ctx context.Context) error {
	var keys list
	err := w.rows(ctx, takeKeysSQL, []any{sweepAtOnce}, func(scan func(...any) error) error {
		var key []byte
		err := scan(&key)
		keys.bytes(key)
		return err
	})
	if err != nil || len(keys.b) == 0 {
		return err
	}
	if err := w.exec(ctx, giveWaySQL, keys.String()); err != nil {
		return err
	}
	return w.exec(ctx, electSQL, keys.String())
}
