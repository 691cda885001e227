package postgres

import (
	"context"

	"github.com/goutbox/goutbox/outbox"
)

// sweepAtOnce bounds one step of a sweep, and sweeps the steps of one claim.
const (
	sweepAtOnce = 500
	sweeps      = 8
)

// The first of an index, and no EXISTS: the planner thinks that of many rows one is found
// soon, in the table itself.
const (
	firstLease  = `(SELECT lease_end FROM goutbox_tasks WHERE state = 1 ORDER BY lease_end LIMIT 1)`
	firstExpiry = `(SELECT expires_at FROM goutbox_tasks WHERE state = 0 AND expires_at IS NOT NULL ORDER BY expires_at LIMIT 1)`
)

// unwaited, behind the beginning, has nobody wait for the disk in the commit: what a sweep does, the next one
// would do again (P3).
const unwaited = "; SET LOCAL synchronous_commit = off"

// dueSQL says what a sweep would find to do. Each part reads the first row of an index.
const dueSQL = `SELECT
	coalesce(` + firstLease + ` <= clock_timestamp(), false),
	coalesce(` + firstExpiry + ` <= clock_timestamp(), false),
	EXISTS (SELECT FROM goutbox_marks WHERE kind = 0),
	EXISTS (SELECT FROM goutbox_marks WHERE kind = 1),
	EXISTS (SELECT FROM goutbox_gaps WHERE count > 0),
	(SELECT count(*) FROM (SELECT FROM goutbox_ledger WHERE call IS NULL LIMIT 1000) l),
	(SELECT count(*) FROM (SELECT FROM goutbox_ledger WHERE call IS NOT NULL LIMIT 1000) l)`

// chores is what there is to do before a claim.
type chores struct {
	lapsed, expired, keys, latest, gaps bool
	rows, slots                         int // of the ledger: everybody's, and those of instances
}

// any reports whether a sweep is due.
func (c *chores) any() bool { return c.keys || c.others() }

// others reports whether there is more to do than to choose heads.
func (c *chores) others() bool { return c.lapsed || c.expired || c.latest || c.folds() }

// folds reports whether the ledger has too many rows.
func (c *chores) folds() bool { return c.rows > ledgerRows || c.slots > ledgerSlots }

// chores looks what there is to do.
func (s *Store) chores(ctx context.Context) (c chores, err error) {
	err = s.read(ctx, "claim", func(ctx context.Context, w *work) error {
		return w.row(ctx, dueSQL, nil, &c.lapsed, &c.expired, &c.keys, &c.latest, &c.gaps, &c.rows, &c.slots)
	})
	return c, err
}

// sweep does what is due, before a claim: ends leases that have run out, drops what has
// expired, and chooses the heads of keys. One instance does it at a time; the others go on without.
// It waits for no transaction of the application.
//
// Marks that come meanwhile are left to the next claim, or where many keep coming there would
// never be one.
func (s *Store) sweep(ctx context.Context, c chores) (chores, error) {
	for range sweeps {
		if !c.any() {
			break
		}
		var e elected
		err := s.runFrom(ctx, s.begin+unwaited, "claim", func(ctx context.Context, w *work) (err error) {
			w.lazy = true
			e, err = w.sweep(ctx, c)
			return err
		})
		if err != nil || !e.got {
			return c, err
		}
		if c.others() {
			if c, err = s.chores(ctx); err != nil {
				return c, err
			}
		} else {
			c.keys = e.n == sweepAtOnce || e.left > 0
		}
		if e.n < sweepAtOnce && !c.others() {
			break
		}
	}
	return c, nil
}

// sweep is one step of a sweep.
func (w *work) sweep(ctx context.Context, c chores) (elected, error) {
	if !c.others() {
		return w.elect(ctx)
	}
	if got, err := w.tryLock(ctx, lockSweep); err != nil || !got {
		return elected{}, err
	}
	for _, chore := range []struct {
		due bool
		do  func(context.Context) error
	}{
		{c.lapsed, w.lapse},
		{c.latest, w.coalesce},
		{c.expired, w.expire},
		{c.folds(), func(ctx context.Context) error { return w.fold(ctx, c.slots > ledgerSlots) }},
	} {
		if chore.due {
			if err := chore.do(ctx); err != nil {
				return elected{}, err
			}
		}
	}
	if err := w.writeMarks(ctx); err != nil {
		return elected{}, err
	}
	return w.elect(ctx)
}

const lapseSQL = `
WITH over AS MATERIALIZED (
	SELECT id FROM goutbox_tasks WHERE state = 1 AND lease_end <= (SELECT clock_timestamp())
	ORDER BY lease_end LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE goutbox_tasks t SET state = 0, lease_end = NULL FROM over
WHERE t.id = over.id RETURNING t.id::text, t.priority, t.key, t.replaced`

var goneSQL = dropSQL(`SELECT id FROM unnest($1::uuid[]) AS u(id)`)

// lapse ends leases that have run out: the tasks wait again, with no attempt spent and due
// as before. They keep the token, so that an outcome which comes late still counts if nobody
// has claimed the task since.
func (w *work) lapse(ctx context.Context) error {
	_, err := w.waitAgain(ctx, lapseSQL, sweepAtOnce)
	return err
}

// waitAgain counts what a text has put back that was in flight, and drops of it what a newer
// LatestOnly task has replaced meanwhile.
func (w *work) waitAgain(ctx context.Context, text string, args ...any) (n int, err error) {
	var outdated list
	err = w.rows(ctx, text, args, func(scan func(...any) error) error {
		var text string
		var class int
		var key []byte
		var replaced bool
		if err := scan(&text, &class, &key, &replaced); err != nil {
			return err
		}
		id, err := parseID(text)
		if replaced {
			outdated.id(id)
		}
		n++
		w.ledger.at(outbox.InFlight, class, -1)
		w.ledger.at(outbox.Waiting, class, 1)
		w.mark(string(key))
		return err
	})
	if err != nil || len(outdated.b) == 0 {
		return n, err
	}
	_, err = w.dropChosen(ctx, outbox.ReasonCoalesced, goneSQL, outdated.String())
	return n, err
}

var expireSQL = dropSQL(`SELECT id FROM goutbox_tasks WHERE state = 0 AND expires_at <= (SELECT clock_timestamp())
	ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED`)

// expire drops waiting tasks whose time-to-live has run out, due or not, so that none of
// them stands in the way of the next of its key.
func (w *work) expire(ctx context.Context) error {
	_, err := w.dropChosen(ctx, outbox.ReasonExpired, expireSQL, sweepAtOnce)
	return err
}

const (
	takeLatestSQL = `DELETE FROM goutbox_marks WHERE seq IN (SELECT seq FROM goutbox_marks WHERE kind = 1 ORDER BY seq LIMIT $1)
		RETURNING key, keep::text, upto::text`
	outdatedSQL = `SELECT t.id FROM unnest($1::bytea[], $2::uuid[], $3::uuid[]) AS m(key, keep, upto) JOIN goutbox_tasks t
		ON t.latest_key = m.key AND t.id <> m.keep AND t.id < m.upto`
	lockOutdatedSQL = outdatedSQL + ` WHERE t.state < 2 ORDER BY t.id FOR UPDATE OF t`
	outdateFewSQL   = `UPDATE goutbox_tasks t SET replaced = true WHERE state = 1 AND id IN (` + outdatedSQL + `)`
)

var coalesceFewSQL = dropSQL(`SELECT id FROM goutbox_tasks WHERE state = 0 AND id IN (` + outdatedSQL + `) FOR UPDATE`)

// coalesce does for events of the application's transactions what replace does for others.
func (w *work) coalesce(ctx context.Context) error {
	var keys, keep, upto list
	err := w.rows(ctx, takeLatestSQL, []any{sweepAtOnce}, func(scan func(...any) error) error {
		var key []byte
		var k, u string
		err := scan(&key, &k, &u)
		keys.bytes(key)
		keep.word(k)
		upto.word(u)
		return err
	})
	if err != nil || len(keys.b) == 0 {
		return err
	}
	args := []any{keys.String(), keep.String(), upto.String()}
	if err := w.exec(ctx, lockOutdatedSQL, args...); err != nil {
		return err
	}
	if _, err := w.dropChosen(ctx, outbox.ReasonCoalesced, coalesceFewSQL, args...); err != nil {
		return err
	}
	return w.exec(ctx, outdateFewSQL, args...)
}
