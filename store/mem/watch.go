package mem

import "github.com/goutbox/goutbox/outbox"

// Watch has the functions of w called after every call that has dropped or buried tasks,
// until stop is called. They run in the goroutine of that call, without the store's lock, so
// they may call the store. There are no syncs to tell of.
func (s *Store) Watch(w outbox.Watch) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
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
func (s *Store) tell() {
	s.mu.Lock()
	unheard, buried := s.unheard, s.buried
	s.unheard, s.buried = outbox.Dropped{}, outbox.Buried{}
	var all []*outbox.Watch
	if unheard.Total()+buried.Total() > 0 {
		for w := range s.watchers {
			all = append(all, w)
		}
	}
	s.mu.Unlock()
	for _, w := range all {
		w.TellDropped(unheard)
		w.TellBuried(buried)
	}
}
