package postgres

import (
	"context"

	"github.com/goutbox/goutbox/outbox"
)

const (
	toldLivesSQL = `SELECT EXISTS (SELECT FROM goutbox_tasks WHERE id = nullif($1, '')::uuid AND state < 2)`
	toldSQL      = `UPDATE goutbox_gaps SET count = 0, told = $2::uuid WHERE reason = $1`
)

// tellGaps accepts the events that tell of what was dropped, each in the step that empties
// the sum: a drop is told once (P5).
func (w *work) tellGaps(ctx context.Context) error {
	for _, reason := range []outbox.Reason{outbox.ReasonExpired, outbox.ReasonQuota} { // as finish locks them
		u, told, err := w.untoldOf(ctx, reason)
		if err != nil {
			return err
		}
		if u.Count == 0 {
			continue
		}
		lives := false
		if err := w.row(ctx, toldLivesSQL, []any{told}, &lives); err != nil {
			return err
		}
		if lives {
			continue
		}
		now, err := w.now(ctx)
		if err != nil {
			return err
		}
		b := &batch{tasks: []outbox.Task{u.Task()}, replaced: []bool{false}}
		b.at = u.DueAt(now).Truncate(microsecond)
		if err := w.insert(ctx, b); err != nil {
			return err
		}
		w.proof = uuidOf(b.made[0].id)
		if err := w.exec(ctx, toldSQL, string(reason), w.proof); err != nil {
			return err
		}
	}
	return nil
}
