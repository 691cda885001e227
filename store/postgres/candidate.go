package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// candidate is a head that is due, locked by this transaction.
type candidate struct {
	id     string
	key    string
	size   int64
	class  outbox.Priority
	parked bool
}

const candidateColumns = `t.id::text, t.key, octet_length(t.payload)::bigint, t.priority::int,
	t.key IS NOT NULL AND (SELECT true FROM goutbox_tasks p WHERE p.key = t.key AND p.parks AND p.id < t.id LIMIT 1) IS NOT NULL`

// candidatesSQL reads the first of each class, by the index of due times; what somebody
// else is claiming is passed over.
func candidatesSQL(newest bool) string {
	var with, all []string
	for _, class := range outbox.Priorities {
		name := class.String()
		with = append(with, fmt.Sprintf(`%s AS MATERIALIZED (
	SELECT %s FROM goutbox_tasks t
	WHERE state = 0 AND head AND priority = %d AND due_at <= (SELECT clock_timestamp())
		AND (expires_at IS NULL OR expires_at > (SELECT clock_timestamp())) AND id <> ALL ($2::uuid[])
	ORDER BY %s LIMIT $1 FOR UPDATE SKIP LOCKED)`, name, candidateColumns, class, byDue("t", newest)))
		all = append(all, "SELECT * FROM "+name)
	}
	return "WITH " + strings.Join(with, ", ") + "\n" + strings.Join(all, " UNION ALL ")
}

// byDue is the order within a class, of the columns of a table: a bare id would be the text
// in the output.
func byDue(table string, newest bool) string {
	if newest {
		return table + ".due_at DESC, " + table + ".id DESC"
	}
	return table + ".due_at, " + table + ".id"
}

var candidates = map[bool]string{false: candidatesSQL(false), true: candidatesSQL(true)}

// namedSQL is candidatesSQL for some names, by the index that has them first.
func namedSQL(newest bool) string {
	var with, all []string
	for _, class := range outbox.Priorities {
		name := class.String()
		with = append(with, fmt.Sprintf(`%s AS MATERIALIZED (
	SELECT %s FROM goutbox_tasks t JOIN (
		SELECT due.id, due.due_at FROM unnest($3::bytea[]) AS n(name), LATERAL (
			SELECT d.id, d.due_at FROM goutbox_tasks d WHERE d.state = 0 AND d.head AND d.name = n.name AND d.priority = %d
				AND d.due_at <= (SELECT clock_timestamp()) AND d.id <> ALL ($2::uuid[])
			ORDER BY %s LIMIT 4 * $1::bigint
		) due ORDER BY %s LIMIT 4 * $1::bigint
	) first USING (id)
	WHERE t.state = 0 AND t.head AND (t.expires_at IS NULL OR t.expires_at > (SELECT clock_timestamp()))
	ORDER BY %s LIMIT $1::bigint FOR UPDATE OF t SKIP LOCKED)`,
			name, candidateColumns, class, byDue("d", newest), byDue("due", newest), byDue("t", newest)))
		all = append(all, "SELECT * FROM "+name)
	}
	return "WITH " + strings.Join(with, ", ") + "\n" + strings.Join(all, " UNION ALL ")
}

var named = map[bool]string{false: namedSQL(false), true: namedSQL(true)}

// candidates returns what could be claimed, first of each class first.
func (w *work) candidates(ctx context.Context, p *pick, room int) (classes map[outbox.Priority][]candidate, err error) {
	text, args := candidates[p.req.Newest], []any{room, idList(slices.Concat(p.ids, p.passed))}
	if p.names != nil {
		text, args = named[p.req.Newest], append(args, textList(p.names))
	}
	classes = map[outbox.Priority][]candidate{}
	err = w.rows(ctx, text, args, func(scan func(...any) error) error {
		var c candidate
		var key []byte
		var class int
		if err := scan(&c.id, &key, &c.size, &class, &c.parked); err != nil {
			return err
		}
		c.key, c.class = string(key), outbox.Priority(class)
		classes[c.class] = append(classes[c.class], c)
		return nil
	})
	return classes, err
}

// nextNameSQL leaps from name to name through the index, whatever waits of each.
const nextNameSQL = `
WITH RECURSIVE leap AS (
	(SELECT name FROM goutbox_tasks WHERE state = 0 AND head AND name > $1 ORDER BY name LIMIT 1)
	UNION ALL
	SELECT (SELECT t.name FROM goutbox_tasks t WHERE t.state = 0 AND t.head AND t.name > leap.name ORDER BY t.name LIMIT 1)
	FROM leap WHERE leap.name IS NOT NULL
)
SELECT name FROM leap WHERE name IS NOT NULL LIMIT $2`

const namesAtOnce = 1000

// matching lists the names that wait and that the request is about; nil if it is about
// all.
func (w *work) matching(ctx context.Context, req outbox.ClaimRequest) (names []string, err error) {
	if req.Match == nil {
		return nil, nil
	}
	names = []string{}
	last := []byte{}
	for n := namesAtOnce; n == namesAtOnce; {
		n = 0
		err := w.rows(ctx, nextNameSQL, []any{last, namesAtOnce}, func(scan func(...any) error) error {
			var name []byte
			if err := scan(&name); err != nil {
				return err
			}
			last = slices.Clone(name)
			if n++; req.Match(string(name)) {
				names = append(names, string(name))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

var nextSQL = `SELECT extract(epoch FROM least(` + firstDue("") + `,
	` + firstLease + `, ` + firstExpiry + `) - clock_timestamp())::float8`

var nextNamedSQL = `SELECT extract(epoch FROM least((SELECT min(least(` + firstDue("AND t.name = n.name") + `)) FROM unnest($1::bytea[]) AS n(name)),
	` + firstLease + `, ` + firstExpiry + `) - clock_timestamp())::float8`

// firstDue is the earliest due time of each class.
func firstDue(of string) string {
	var each []string
	for _, class := range outbox.Priorities {
		each = append(each, fmt.Sprintf(`(SELECT t.due_at FROM goutbox_tasks t WHERE t.state = 0 AND t.head %s AND t.priority = %d ORDER BY t.due_at LIMIT 1)`, of, class))
	}
	return strings.Join(each, ",\n\t")
}

// duration is a number of seconds, rounded up to what the clock can tell apart.
func duration(seconds float64) time.Duration {
	if seconds > 9e9 {
		return outbox.Forever
	}
	return time.Duration(math.Ceil(seconds*1e6)) * time.Microsecond
}
