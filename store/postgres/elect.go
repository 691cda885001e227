package postgres

import "context"

const (
	// LIMIT has the planner ask the index for each key, whatever it thinks of the table.
	firstOfKey = `(SELECT b.id FROM goutbox_tasks b WHERE b.key = k AND b.state = 0 ORDER BY b.id LIMIT 1)`

	// The marks of a sweep, if nobody else is sweeping.
	markedSQL = `mine AS MATERIALIZED (
		SELECT pg_try_advisory_xact_lock($2::bigint) AS got
	), taken AS (
		DELETE FROM goutbox_marks WHERE seq IN (
			SELECT seq FROM goutbox_marks WHERE kind = 0 AND (SELECT got FROM mine) ORDER BY seq LIMIT $3::bigint)
		RETURNING key AS k
	)`

	// Keys that are named.
	askedSQL = `mine AS MATERIALIZED (
		SELECT true AS got
	), taken AS (
		SELECT k FROM unnest($2::bytea[]) k
	)`

	// A head that waits gives way to an older one, which was requeued or has an ID of
	// before. One that somebody is claiming stays.
	giveWaySQL = `WITH old AS MATERIALIZED (
		SELECT h.id FROM unnest($1::bytea[]) k, LATERAL (
			SELECT t.id FROM goutbox_tasks t WHERE t.key = k AND t.head AND t.state = 0 AND t.id > ` + firstOfKey + `
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) h
	)
	UPDATE goutbox_tasks t SET head = false FROM old WHERE t.id = old.id`
)

// electSQL chooses the heads of some keys. Of each it looks at the first that waits and at the head:
//
//   - nothing waits: there is nothing to do;
//   - there is no head: the first becomes it;
//   - the head is in flight: it stays;
//   - it waits, behind the first: it has to give way. $1 says that this is left to the next sweep.
//
// What somebody has locked is not waited for: the key is marked, for the next sweep. That is so for a
// head in flight too, since whoever is ending it may have looked for its successor before the one was
// there of which the mark tells.
func electSQL(keys string) string {
	return `WITH ` + keys + `, asked AS MATERIALIZED (
		SELECT DISTINCT k FROM taken
	), look AS MATERIALIZED (
		SELECT k, ` + firstOfKey + ` AS first, h.id AS head, h.state
		FROM asked LEFT JOIN LATERAL (SELECT t.id, t.state FROM goutbox_tasks t WHERE t.key = k AND t.head LIMIT 1) h ON true
	), flying AS MATERIALIZED (
		SELECT k FROM look, LATERAL (
			SELECT FROM goutbox_tasks t WHERE t.id = look.head AND t.state = 1 LIMIT 1 FOR KEY SHARE SKIP LOCKED) h
		WHERE look.state = 1 AND look.first IS NOT NULL
	), best AS MATERIALIZED (
		SELECT k, t.id FROM look, LATERAL (
			SELECT t.id FROM goutbox_tasks t WHERE t.id = look.first AND t.state = 0 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) t
		WHERE look.head IS NULL
	), chosen AS (
		UPDATE goutbox_tasks t SET head = true FROM best WHERE t.id = best.id
	), again AS (
		INSERT INTO goutbox_marks (kind, key)
		SELECT 0, k FROM look WHERE first IS NOT NULL AND CASE
			WHEN head IS NULL THEN NOT EXISTS (SELECT FROM best WHERE best.k = look.k)
			WHEN state = 1 THEN NOT EXISTS (SELECT FROM flying WHERE flying.k = look.k)
			ELSE $1::boolean AND first < head END
		RETURNING key
	)
	SELECT (SELECT got FROM mine), (SELECT count(*) FROM taken), (SELECT count(*) FROM again), NULL::bytea
	UNION ALL
	SELECT true, 0, 0, k FROM look WHERE state = 0 AND first < head AND NOT $1::boolean`
}

var electMarkedSQL, electAskedSQL = electSQL(markedSQL), electSQL(askedSQL)

// elected is what came of choosing heads.
type elected struct {
	got  bool // nobody else was sweeping
	n    int  // marks that were taken
	left int  // keys that were marked once more
}

// elect chooses the heads of the keys that are marked (P4): the oldest task that waits,
// unless one is in flight. Whoever brings a task that is no head leaves a mark in the same transaction, and
// whoever takes a head away leaves one or chooses the next itself, so a key with tasks has a head or
// a mark.
//
// It is one statement, unless a head has to give way, which is rare. The index of heads refuses a second
// one, whatever happens meanwhile, and then the sweep is tried again.
func (w *work) elect(ctx context.Context) (elected, error) {
	e, late, err := w.choosing(ctx, electMarkedSQL, false, w.s.lockNumber(lockSweep, ""), sweepAtOnce)
	if err != nil || len(late.b) == 0 {
		return e, err
	}
	if err := w.exec(ctx, giveWaySQL, late.String()); err != nil {
		return e, err
	}
	more, err := w.electOf(ctx, late)
	e.left += more.left
	return e, err
}

// electOf chooses the heads of some keys, after a statement that has taken them away.
func (w *work) electOf(ctx context.Context, keys list) (elected, error) {
	e, _, err := w.choosing(ctx, electAskedSQL, true, keys.String())
	return e, err
}

func (w *work) choosing(ctx context.Context, text string, args ...any) (e elected, late list, err error) {
	err = w.rows(ctx, text, args, func(scan func(...any) error) error {
		var got bool
		var n, left int
		var key []byte
		if err := scan(&got, &n, &left, &key); err != nil {
			return err
		}
		if key != nil {
			late.bytes(key)
			return nil
		}
		e = elected{got, n, left}
		return nil
	})
	return e, late, err
}
