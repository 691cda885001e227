package postgres

import "time"

// SetIdle sets how long the server waits for a frozen client.
func (s *Store) SetIdle(d time.Duration) { s.begin = beginText(d) }

// SweepLock is the advisory lock of whoever sweeps.
func (s *Store) SweepLock() int64 { return s.lockNumber(lockSweep, "") }

// MaxLeaders is how many groups are on their way at once.
const MaxLeaders = maxLeaders

// SetLate sets how long a caller whose context has ended waits for an answer.
func (s *Store) SetLate(d time.Duration) { s.queue.late = d }

// Waiting is how many calls wait for a leader, and Leading how many leaders there are.
func (s *Store) Waiting() (waiting, leading int) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting), s.queue.leaders
}

// SetTaken has f called by each leader that has taken calls, before they are sent.
func (s *Store) SetTaken(f func()) { s.queue.taken = f }

// WaitingForRoom is how many calls of Create wait until they may begin.
func (s *Store) WaitingForRoom() int {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return len(s.room.waiting)
}
