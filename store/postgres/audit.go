package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// auditSQL counts in one statement, so all is of one moment.
const auditSQL = `
WITH l AS (SELECT ` + sumColumns + ` FROM goutbox_ledger),
t AS (
	SELECT count(*) FILTER (WHERE state = 0 AND priority = 1) AS high, count(*) FILTER (WHERE state = 0 AND priority = 0) AS normal,
		count(*) FILTER (WHERE state = 0 AND priority = -1) AS low, count(*) FILTER (WHERE state = 1) AS in_flight,
		count(*) FILTER (WHERE state = 2) AS dead, count(*) FILTER (WHERE head AND state = 2 OR NOT head AND key IS NULL AND state < 2) AS odd
	FROM goutbox_tasks
), k AS (
	SELECT count(*) AS headless FROM (
		SELECT key FROM goutbox_tasks WHERE key IS NOT NULL AND state < 2 GROUP BY key HAVING count(*) FILTER (WHERE head) <> 1
	) g WHERE NOT EXISTS (SELECT FROM goutbox_marks m WHERE m.kind = 0 AND m.key = g.key)
)
SELECT l.*, t.high, t.normal, t.low, t.in_flight, t.dead, t.odd, k.headless FROM l, t, k`

// Audit recounts the store and compares the result with its counters (P5), and looks
// whether each key with tasks has a head or is marked to get one (P4). If anything disagrees the error is
// [outbox.ErrCorrupt]. It reads the whole table, in one statement, and changes nothing.
func (s *Store) Audit(ctx context.Context) error {
	var l ledger
	var high, normal, low, flying, dead, odd, headless int64
	err := s.read(ctx, "audit", func(ctx context.Context, w *work) error {
		return w.row(ctx, auditSQL, nil, append(l.into(), &high, &normal, &low, &flying, &dead, &odd, &headless)...)
	})
	if err != nil {
		return err
	}
	st := l.stats()
	var found []error
	for _, c := range []struct {
		what        string
		counts, are int64
	}{
		{"waiting tasks of class high", l.high, high}, {"waiting tasks of class normal", l.normal, normal},
		{"waiting tasks of class low", l.low, low}, {"tasks in flight", l.inFlight, flying}, {"dead letters", l.dead, dead},
		{"tasks in all", l.accepted, l.delivered + high + normal + low + flying + dead + int64(st.Dropped)},
		{"tasks of no sense", 0, odd}, {"keys with tasks and without a head", 0, headless},
	} {
		if c.counts != c.are {
			found = append(found, fmt.Errorf("%s: the counters say %d, there are %d", c.what, c.counts, c.are))
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("postgres: audit: %w: %w", outbox.ErrCorrupt, errors.Join(found...))
	}
	return nil
}
