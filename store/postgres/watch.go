package postgres

import "github.com/goutbox/goutbox/outbox"

// Watch has the functions of w called after every call of this store that has dropped
// or buried tasks, until stop is called, in the goroutine of that call. What other instances do, they
// tell their own watchers.
func (s *Store) Watch(w outbox.Watch) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return func() {}
	}
	s.watchers[&w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, &w)
	}
}

// tell tells the watchers what was dropped and buried, without the lock.
func (s *Store) tell(dropped outbox.Dropped, buried outbox.Buried) {
	if dropped.Total()+buried.Total() == 0 {
		return
	}
	s.mu.Lock()
	all := make([]*outbox.Watch, 0, len(s.watchers))
	for w := range s.watchers {
		all = append(all, w)
	}
	s.mu.Unlock()
	for _, w := range all {
		w.TellDropped(dropped)
		w.TellBuried(buried)
	}
}
