package postgres

import (
	"context"

	"github.com/goutbox/goutbox/outbox"
)

const (
	behindSQL = `SELECT t.id::text, name, priority, due_at <= clock_timestamp() AND (expires_at IS NULL OR expires_at > clock_timestamp())
		FROM goutbox_tasks t WHERE key = $1 AND state = 0 ORDER BY t.id LIMIT $2 FOR UPDATE SKIP LOCKED`
	parkSQL = `UPDATE goutbox_tasks SET state = 2, reason = $2, head = false, token = 0, held = NULL WHERE id = ANY ($1::uuid[])`
)

// park makes a dead letter of a head whose key is parked, and of those behind it that would
// be claimed after it: due, of a name that matches, and no more than the caller has room for. The others
// keep their place. The next of the key becomes its head.
func (w *work) park(ctx context.Context, p *pick, head candidate) error {
	var dead []outbox.ID
	classes := map[int]int64{}
	end := false
	most := min(p.most-len(p.ids), sweepAtOnce)
	err := w.rows(ctx, behindSQL, []any{[]byte(head.key), most}, func(scan func(...any) error) error {
		var text string
		var name []byte
		var class int
		var due bool
		if err := scan(&text, &name, &class, &due); err != nil {
			return err
		}
		end = end || text != head.id && (len(dead) == 0 || !due || p.req.Match != nil && !p.req.Match(string(name)))
		if end {
			return nil
		}
		id, err := parseID(text)
		dead = append(dead, id)
		classes[class]++
		return err
	})
	if err != nil {
		return err
	}
	if len(dead) == 0 { // an older one waits: it was requeued, and the next sweep makes it the head
		w.mark(head.key)
		id, err := parseID(head.id)
		p.passed = append(p.passed, id)
		return err
	}
	if err := w.exec(ctx, parkSQL, idList(dead), []byte(outbox.ReasonKeyParked)); err != nil {
		return err
	}
	for class, n := range classes {
		w.ledger.waits(class, -n)
		w.ledger.dead += n
	}
	w.buried.KeyParked += uint64(len(dead))
	p.parked = true
	var key list
	key.bytes([]byte(head.key))
	_, err = w.electOf(ctx, key)
	return err
}
