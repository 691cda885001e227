package bolt

import "github.com/goutbox/goutbox/wal"

// LogNext returns the position that the next log record will get.
func (s *Store) LogNext() wal.Position { return s.log.Next() }

// LogSynced returns up to which record the log is on the disk beyond doubt.
func (s *Store) LogSynced() wal.Position { return s.log.Synced() }
