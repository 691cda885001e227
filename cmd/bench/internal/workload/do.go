package workload

import (
	"context"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Do is an application that publishes in place: the common case of a destination that
// is up.
var Do = Workload{
	Name: "do",
	About: "callers call Do: the event is made durable, a publisher that does nothing is called in place, and it is noted as delivered; " +
		"afterwards each acknowledged event must have been delivered, once, and the reopened store must be empty",
	Needs:   subject.Inline,
	Cases:   some(1, 8, 64),
	Write:   func(callers int) int { return callers },
	Measure: measureDo,
	Columns: acceptColumns,
}

func measureDo(t *Trial) (report.Sample, error) {
	tally := load.NewTally(t.Source, t.Producers)
	return calls(t, 1, func(q *opened) load.Send {
		do := q.Queue.(subject.Inliner).Do
		return func(ctx context.Context, payloads [][]byte) error {
			return do(ctx, payloads[0], func(payload []byte) { tally.See(payload) })
		}
	}, func(q *opened, acked []uint64) error {
		return t.checkDelivered(q, tally, acked, func() error { return nil })
	})
}
