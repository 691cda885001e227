package storetest

import (
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// expire creates tasks that have expired when the next claim comes, and claims. What a
// claim drops that is not about everything is left open, so that one is.
func (w *twins) expire() {
	tasks := make([]outbox.Task, 1+w.random.IntN(4))
	for i := range tasks {
		tasks[i] = task(fmt.Sprint("t", w.offered), ttl(soon))
		tasks[i].Name = kinds[w.random.IntN(len(kinds))]
		tasks[i].Priority = outbox.Priority(w.random.IntN(3) - 1)
		w.offered++
	}
	w.did("create, to expire: %s", brief(tasks))
	w.both("results of create", func(s *side) string { return kind(s.s.Create(w.ctx, append([]outbox.Task(nil), tasks...))) })
	w.later()
	w.claim()
}

// withoutGaps delivers the gaps among tasks, and returns the others.
func (w *twins) withoutGaps(s *side, tasks []outbox.Task) (others []outbox.Task) {
	for _, t := range tasks {
		if t.Name != outbox.GapName {
			others = append(others, t)
			continue
		}
		var g outbox.Gap
		err := t.Decode(&g)
		if err == nil {
			err = s.s.Settle(w.ctx, []outbox.Outcome{{ID: t.ID, Token: t.Token, Verdict: outbox.Done}})
		}
		if err != nil || g.Count == 0 || g.Reason != outbox.ReasonExpired {
			w.Fatalf("seed %d, step %d: %s: gap %s: %v", w.seed, w.steps, s.name, t.Payload, err)
		}
		s.gaps++
		s.told += g.Count
	}
	return others
}

// tellAll has both sides tell what is untold, which must be all that has expired.
func (w *twins) tellAll() {
	for _, s := range w.sides {
		for before := ^uint64(0); s.told != before; {
			before = s.told
			got, err := s.s.Claim(w.ctx, outbox.ClaimRequest{Max: many, Lease: ages, Gaps: true})
			if err != nil || len(w.withoutGaps(s, got.Tasks)) > 0 {
				w.Fatalf("seed %d: %s: last claim: %v, %v", w.seed, s.name, names(got.Tasks), err)
			}
		}
		st, err := s.s.Stats(w.ctx)
		if err != nil || st.DroppedBy.Expired != s.told {
			w.Fatalf("seed %d: %s: gaps have told of %d tasks, %d have expired: %v", w.seed, s.name, s.told, st.DroppedBy.Expired, err)
		}
	}
}
