package bolt

import "github.com/goutbox/goutbox/outbox"

// Notify implements [outbox.Notifier].
func (s *Store) Notify(f func()) (stop func()) { return s.listen(func([]string) { f() }, true) }

// NotifyNames implements [outbox.NameNotifier].
func (s *Store) NotifyNames(f func(names []string)) (stop func()) { return s.listen(f, false) }

func (s *Store) listen(f func(names []string), always bool) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[&f] = always
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &f)
	}
}

// announceLocked calls everybody who wants to know that tasks have become claimable.
// The callbacks do not block, so they are called under mu.
func (s *Store) announceLocked() {
	names, any := s.overlay.news.take()
	for f, always := range s.listeners {
		if any || always {
			(*f)(names)
		}
	}
}

// news is what claims may find that they would not have found before, or not so soon, and
// that nobody was told of: what has become the first in its turn, and keys whose head the
// database must be asked for. What a refill brings into memory is none: the floor of its
// queue has stood for it (I3).
type news struct {
	any    bool // what it is is not known
	off    bool // a refill is at work
	queues []*queue
	crowd  []string // the names of tasks of mixed queues
	gap    bool     // one is owed
	names  []string // of the last take
}

// maxNews is how many names are told; more are any.
const maxNews = 256

// waits notes that an entry can be claimed when it is due.
func (n *news) waits(e *entry) {
	switch {
	case n.off || n.any || e.in.news:
	case len(n.crowd)+len(n.queues) == maxNews:
		n.any = true
	case e.in.name.mixed():
		n.crowd = append(n.crowd, nameIn(e.raw))
	default:
		n.listed(e.in)
	}
}

// listed notes that the database has something new of a queue.
func (n *news) listed(q *queue) {
	switch {
	case q.name.mixed():
		n.any = true
	case !q.news:
		q.news = true
		n.queues = append(n.queues, q)
	}
}

// unknown notes that anything may be claimable.
func (n *news) unknown() { n.any = n.any || !n.off }

// take returns the names, nil if they may be any, and forgets the news. any says whether
// there are any. The names are good until the next take.
func (n *news) take() (names []string, any bool) {
	clear(n.names)
	names = n.names[:0]
	for i, q := range n.queues {
		names = append(names, q.name.name)
		q.news, n.queues[i] = false, nil
	}
	names = append(names, n.crowd...)
	if n.gap {
		names = append(names, outbox.GapName)
	}
	any = n.any || len(names) > 0
	clear(n.crowd)
	n.names, n.queues, n.crowd = names, n.queues[:0], n.crowd[:0]
	if n.any {
		names = nil
	}
	n.any, n.gap = false, false
	return names, any
}
