package postgres

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// gone is a task that was taken out of the table.
type gone struct {
	task  outbox.Task // as far as a gap tells of it
	state outbox.State
	class int
	key   string
	head  bool
}

// goneColumns is what scanGone reads of a deleted row. Of the payloads only those of gaps
// are wanted, which are small.
const goneColumns = `t.id::text, t.name, t.created_at, t.due_at, t.priority, t.state, t.key, t.head,
	CASE WHEN t.name = '` + outbox.GapName + `'::bytea THEN t.payload END`

func scanGone(scan func(...any) error) (g gone, err error) {
	var id string
	var name, key []byte
	var st int
	if err := scan(&id, &name, &g.task.CreatedAt, &g.task.DueAt, &g.class, &st, &key, &g.head, &g.task.Payload); err != nil {
		return g, err
	}
	g.task.ID, err = parseID(id)
	g.task.Name, g.task.Priority = string(name), outbox.Priority(g.class)
	g.task.CreatedAt, g.task.DueAt = g.task.CreatedAt.UTC(), g.task.DueAt.UTC()
	g.state, g.key = outbox.State(st), string(key)
	return g, err
}

// dropSQL deletes what a query chooses and locks.
func dropSQL(chosen string) string {
	return `WITH chosen AS MATERIALIZED (` + chosen + `)
		DELETE FROM goutbox_tasks t USING chosen WHERE t.id = chosen.id RETURNING ` + goneColumns
}

// dropChosen drops what a text made by dropSQL chooses, and counts why (P5).
func (w *work) dropChosen(ctx context.Context, why outbox.Reason, text string, args ...any) (n int, err error) {
	err = w.rows(ctx, text, args, func(scan func(...any) error) error {
		g, err := scanGone(scan)
		if err != nil {
			return err
		}
		n++
		w.drop(g.state, g.class, why)
		w.miss(outbox.UntoldOf(g.task, why))
		if g.head {
			w.mark(g.key)
		}
		return nil
	})
	return n, err
}

// mark has the next sweep choose the head of a key.
func (w *work) mark(key string) {
	if key == "" {
		return
	}
	if w.marks == nil {
		w.marks = map[string]bool{}
	}
	w.marks[key] = true
}

// miss notes what was dropped, for a gap to tell of.
func (w *work) miss(u outbox.Untold) {
	if u.Count == 0 {
		return
	}
	if w.untold == nil {
		w.untold = map[outbox.Reason]outbox.Untold{}
	}
	sum := w.untold[u.Reason]
	sum.Add(u)
	w.untold[u.Reason] = sum
}

// finish writes what the steps of a transaction have gathered. What others may wait for
// comes last: the row of a reason, and then the ledger.
func (w *work) finish(ctx context.Context) error {
	if err := w.writeMarks(ctx); err != nil {
		return err
	}
	for _, reason := range slices.Sorted(maps.Keys(w.untold)) {
		u, _, err := w.untoldOf(ctx, reason)
		if err != nil {
			return err
		}
		u.Add(w.untold[reason])
		if err := w.setUntold(ctx, reason, u); err != nil {
			return err
		}
	}
	return w.writeLedger(ctx)
}

const marksSQL = `INSERT INTO goutbox_marks (kind, key) SELECT 0, k FROM unnest($1::bytea[]) k`

// writeMarks writes the marks of keys.
func (w *work) writeMarks(ctx context.Context) error {
	if len(w.marks) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(w.marks))
	w.marks = nil
	return w.exec(ctx, marksSQL, textList(keys))
}

const untoldSQL = `SELECT count, first_id::text, last_id::text, from_at, to_at, due_at, priority, told::text
	FROM goutbox_gaps WHERE reason = $1 FOR UPDATE`

// untoldOf reads what is untold for a reason and which gap is the latest, and keeps others
// from it until the transaction ends.
func (w *work) untoldOf(ctx context.Context, reason outbox.Reason) (u outbox.Untold, told string, err error) {
	var first, last, latest sql.NullString
	var from, to, due sql.NullTime
	var class sql.NullInt64
	if err := w.row(ctx, untoldSQL, []any{string(reason)}, &u.Count, &first, &last, &from, &to, &due, &class, &latest); err != nil {
		return u, "", err
	}
	if u.Count == 0 {
		return outbox.Untold{}, latest.String, nil
	}
	u.Reason, u.Priority = reason, outbox.Priority(class.Int64)
	u.From, u.To, u.Due = from.Time.UTC(), to.Time.UTC(), due.Time.UTC()
	if u.First, err = parseID(first.String); err == nil {
		u.Last, err = parseID(last.String)
	}
	return u, latest.String, err
}

const setUntoldSQL = `UPDATE goutbox_gaps SET count = $2, first_id = $3::uuid, last_id = $4::uuid, from_at = $5, to_at = $6,
	due_at = $7, priority = $8 WHERE reason = $1`

// setUntold writes what is untold for a reason.
func (w *work) setUntold(ctx context.Context, reason outbox.Reason, u outbox.Untold) error {
	return w.exec(ctx, setUntoldSQL, string(reason), int64(u.Count), uuidOf(u.First), uuidOf(u.Last),
		moment(u.From), moment(u.To), moment(u.Due), int(u.Priority))
}

// moment is a time as a parameter; the zero one is older than the database can say.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}
