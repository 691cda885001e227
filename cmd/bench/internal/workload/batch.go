package workload

import (
	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

const batchEvents = 1000

// Batch is what an import or a buffered application does.
var Batch = Workload{
	Name: "batch",
	About: "one producer calls EnqueueBatch with 1,000 events a call, nobody drains; " +
		"checked as in enqueue",
	Write: func(int) int { return batchEvents },
	Measure: func(t *Trial) (report.Sample, error) {
		return accept(t, batchEvents, func(q *opened) load.Send { return q.EnqueueBatch })
	},
	Columns: acceptColumns,
}
