package storetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// imports imports some tasks, or again some that were imported before, if both sides can.
// Their IDs are below all that the sides hand out, so both agree on who is newer.
func (w *twins) imports() {
	for _, s := range w.sides {
		if _, ok := s.s.(outbox.Importer); !ok {
			w.create()
			return
		}
	}
	if w.late {
		w.claim()
	}
	if len(w.parcels) == 0 || w.random.IntN(3) > 0 {
		w.parcels = append(w.parcels, w.parcel())
	}
	tasks := w.parcels[w.random.IntN(len(w.parcels))]
	w.did("import %s", brief(tasks))
	result := w.both("results of import", func(s *side) string {
		n, err := s.s.(outbox.Importer).Import(w.ctx, tasks)
		if err == nil {
			for _, t := range tasks {
				if _, there := s.known[called(t)]; !there { // else with its token
					s.known[called(t)] = t
				}
			}
		}
		return fmt.Sprint(n, " ", kind(err))
	})
	w.later()
	w.did("  imported: %s", result)
}

// parcel makes tasks that another store may have had.
func (w *twins) parcel() []outbox.Task {
	tasks := make([]outbox.Task, 1+w.random.IntN(5))
	for i := range tasks {
		t := task(fmt.Sprint("t", w.offered), delay(w.anyDelay()))
		w.offered++
		_ = t.ID.SetTime(uint64(time.Now().Add(-ages).UnixMilli()))
		binary.BigEndian.PutUint64(t.ID[6:], w.random.Uint64())
		t.ID[15] = byte(i)
		t.Name = kinds[w.random.IntN(len(kinds))]
		t.Priority = outbox.Priority(w.random.IntN(3) - 1)
		t.Key = []string{"", "a", "b"}[w.random.IntN(3)]
		switch n := w.random.IntN(8); n {
		case 0:
			t.Unique = "u"
		case 1, 2:
			t.LatestOnly = []string{"l", "ll"}[n-1]
		}
		if w.random.IntN(4) == 0 {
			t.KeyPolicy = outbox.ParkWholeKey
		}
		if n := w.random.IntN(6); n < 2 {
			died([]outbox.Reason{outbox.ReasonPermanent, outbox.ReasonKeyParked}[n])(&t)
		} else if n == 2 {
			t.Attempts, t.Failures = 1, []outbox.Failure{{At: time.Now(), Attempt: 1, Error: "no"}}
		}
		tasks[i] = t
	}
	slices.SortFunc(tasks, func(a, b outbox.Task) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return tasks
}
