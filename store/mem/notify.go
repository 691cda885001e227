package mem

// Notify has f called after every call that may have made tasks claimable, until
// stop is called: Create, Settle, Requeue, Delete, and a Claim that has dropped some. f runs in the goroutine of
// that call, without the store's lock, so it may call the store.
func (s *Store) Notify(f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return func() {}
	}
	s.listeners[&f] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &f)
	}
}

// notify calls the listeners, without the lock.
func (s *Store) notify() {
	s.mu.Lock()
	all := make([]*func(), 0, len(s.listeners))
	for f := range s.listeners {
		all = append(all, f)
	}
	s.mu.Unlock()
	for _, f := range all {
		(*f)()
	}
}
