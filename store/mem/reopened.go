package mem

import (
	"maps"

	"github.com/goutbox/goutbox/outbox"
)

// Reopened returns a store with the same tasks, as one that keeps them on disk would
// have them after a restart at this moment: what was in flight waits again, at once.
// The two live on apart from each other. It is for tests that compare this store
// with such a one.
func (s *Store) Reopened() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := New()
	r.started, r.lastID, r.lastToken = s.started, s.lastID, s.lastToken
	r.accepted, r.delivered, r.requeued, r.dropped = s.accepted, s.delivered, s.requeued, s.dropped
	r.spent = maps.Clone(s.spent)
	for _, u := range s.gaps {
		r.missLocked(*u)
	}
	maps.Copy(r.told, s.told)
	for _, e := range s.tasks {
		r.tasks = append(r.tasks, &entry{Task: clone(e.Task), leaseEnd: e.leaseEnd, replaced: e.replaced})
	}
	for _, e := range append([]*entry(nil), r.tasks...) {
		e.Token = 0
		if e.State == outbox.InFlight {
			r.waitAgainLocked(e)
		}
	}
	return r
}
