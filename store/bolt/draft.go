package bolt

import (
	"slices"
	"sync"

	"github.com/goutbox/goutbox/outbox"
)

// draft is what a call of Create makes of its tasks, in the same order.
type draft struct {
	entries  []*entry
	records  [][]byte
	replaced []*entry // the waiting task that the new one supersedes
}

// drafts keeps the slices: they are of no use once the call has returned, and a third
// of what a call would allocate.
var drafts = sync.Pool{New: func() any { return new(draft) }}

// draftKept is the longest draft that is used again (P7).
const draftKept = 1024

func (d *draft) make(n int) {
	if cap(d.entries) < n {
		*d = draft{make([]*entry, n), make([][]byte, n), make([]*entry, n)}
	}
	d.entries, d.records, d.replaced = d.entries[:n], d.records[:n], d.replaced[:n]
}

// free gives the slices to the next caller. Nothing of the store has kept them.
func (d *draft) free() {
	clear(d.entries)
	clear(d.records)
	clear(d.replaced)
	if cap(d.entries) <= draftKept {
		drafts.Put(d)
	}
}

// encode turns tasks into entries and the log records that create them. The bytes are
// made once: the entry's are the record's, and behind them is room for the CRC that the
// database wants.
func (d *draft) encode(tasks []outbox.Task) {
	d.make(len(tasks))
	for i := range tasks {
		t := &tasks[i]
		if t.MaxAttempts < 1 {
			t.MaxAttempts = 1
		}
		t.Priority = min(max(t.Priority, outbox.Low), outbox.High)
		t.KeyPolicy = min(t.KeyPolicy, outbox.ParkWholeKey)
		rec := appendTask(make([]byte, createPrefix, createPrefix+taskSize(t)+crcSize), t)
		d.records[i] = rec
		raw := rec[createPrefix:]
		d.entries[i] = &entry{
			header: header{
				parks: parks(t), spends: spends(t), gap: t.Name == outbox.GapName,
				id: t.ID, queue: queueName{class: t.Priority, name: t.Name}, key: t.Key, unique: t.Unique, latest: t.LatestOnly,
				payload: len(t.Payload),
				cost:    costOf(len(raw), placeCost(queueName{}, t.Name), t.Key, t.Unique, t.LatestOnly),
			},
			raw:   raw,
			sched: schedule{attempts: t.Attempts, failures: slices.Clone(t.Failures)},
			lease: int64(min(t.Lease, outbox.MaxLease)),
			at:    -1, leasedAt: -1,
		}
	}
}
