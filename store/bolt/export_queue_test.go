package bolt

// WithMaxQueues sets after how many names others share a queue.
func WithMaxQueues(n int) Option {
	return func(o *options) { o.maxQueues = n }
}

// Queues returns how many queues are in memory.
func (s *Store) Queues() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.overlay.queues)
}

// PlacesRead returns at how many places of the due bucket claims have looked so far.
func (s *Store) PlacesRead() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.placesRead
}

// CrowdAhead is how many tasks that do not match a claim looks at in a queue of many names.
const CrowdAhead = crowdAhead

// Looks is how often claims have asked a queue what it has to offer.
func (s *Store) Looks() int {
	s.claiming.Lock()
	defer s.claiming.Unlock()
	return s.gathered.looks
}
