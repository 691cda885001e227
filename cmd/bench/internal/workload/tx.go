package workload

import (
	"context"
	"fmt"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Tx is the outbox pattern proper: the application's data and the event about them, both
// or neither.
var Tx = Workload{
	Name: "tx",
	About: "callers write a row of the application's and an event in one transaction of the application's database, nobody drains: one caller in a transaction each, " +
		"more than one in transactions they share, if the database can do that (bbolt: Batch); checked as in enqueue, and there must be as many rows as events",
	Needs:   subject.Joins,
	Cases:   some(1, 64),
	Write:   func(callers int) int { return callers },
	Measure: measureTx,
	Columns: acceptColumns,
}

func measureTx(t *Trial) (report.Sample, error) {
	t.Subject.Open = func(dir string) (subject.Queue, error) { return t.Subject.OpenTx(dir) }
	return calls(t, 1, func(q *opened) load.Send {
		tx := q.Queue.(subject.TxQueue)
		return func(ctx context.Context, payloads [][]byte) error {
			return tx.EnqueueTx(ctx, payloads[0], t.Producers > 1)
		}
	}, func(q *opened, acked []uint64) error {
		if _, err := t.reopen(q); err != nil {
			return err
		}
		var total uint64
		for _, n := range acked {
			total += n
		}
		rows, err := q.Queue.(subject.TxQueue).Rows(t.Ctx)
		if err != nil {
			return err
		}
		if rows != total {
			return fmt.Errorf("check: the application has %d rows, and %d events were acknowledged", rows, total)
		}
		return t.check(q, acked)
	})
}
