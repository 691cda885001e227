package postgres

import "time"

// SetIdle sets how long the server waits for a frozen client.
func (s *Store) SetIdle(d time.Duration) { s.begin = beginText(d) }

// SweepLock is the advisory lock of whoever sweeps.
func (s *Store) SweepLock() int64 { return s.lockNumber(lockSweep, "") }
