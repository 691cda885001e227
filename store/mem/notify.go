package mem

import (
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// Notify has f called after every call that may have made tasks claimable, until
// stop is called: Create, Settle, Requeue, Delete, Import, and a Claim that has dropped
// some, or made dead letters of them. f runs in the goroutine of that call, without the
// store's lock, so it may call the store.
func (s *Store) Notify(f func()) (stop func()) {
	return s.listen(func([]string) { f() }, true)
}

// NotifyNames is Notify with the names of the tasks that may have become claimable. If
// there are none, f is not called.
func (s *Store) NotifyNames(f func(names []string)) (stop func()) { return s.listen(f, false) }

func (s *Store) listen(f func(names []string), always bool) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return func() {}
	}
	s.listeners[&f] = always
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &f)
	}
}

// notify calls the listeners, without the lock: those who want to hear of no names only
// if the step was one that may have made something claimable.
func (s *Store) notify(step bool) {
	s.mu.Lock()
	names := s.takeNewsLocked()
	var all []*func([]string)
	for f, always := range s.listeners {
		if len(names) > 0 || always && step {
			all = append(all, f)
		}
	}
	s.mu.Unlock()
	for _, f := range all {
		(*f)(names)
	}
}

// news is what has become claimable and nobody was told of.
type news struct {
	names []string
	keys  []string // the first that waits of each
}

// add notes that tasks of that name may have become claimable.
func (n *news) add(name string) {
	if last := len(n.names) - 1; last < 0 || n.names[last] != name {
		n.names = append(n.names, name)
	}
}

// waitsLocked notes that a task waits that did not, or for another time.
func (s *Store) waitsLocked(e *entry) { s.news.add(e.Name) }

// endedLocked notes that a task is not in the way of its key any more. A gap that ends
// lets the next be made.
func (s *Store) endedLocked(e *entry) {
	if e.Key != "" {
		s.news.keys = append(s.news.keys, e.Key)
	}
	if e.Name == outbox.GapName {
		s.news.add(e.Name)
	}
}

// takeNewsLocked returns the names of what is news.
func (s *Store) takeNewsLocked() []string {
	n := s.news
	s.news = news{}
	for _, e := range s.tasks {
		if len(n.keys) == 0 {
			break
		}
		if i := slices.Index(n.keys, e.Key); i >= 0 && e.State == outbox.Waiting {
			n.add(e.Name)
			n.keys = slices.DeleteFunc(n.keys, func(key string) bool { return key == e.Key })
		}
	}
	return n.names
}
