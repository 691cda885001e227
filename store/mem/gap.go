package mem

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// missLocked notes what was dropped, for a gap to tell of.
func (s *Store) missLocked(u outbox.Untold) {
	if u.Count == 0 {
		return
	}
	if s.gaps[u.Reason] == nil {
		s.gaps[u.Reason] = new(outbox.Untold)
	}
	s.gaps[u.Reason].Add(u)
	s.news.add(outbox.GapName)
}

// tellLocked accepts the events that tell of gaps.
func (s *Store) tellLocked(now time.Time, req outbox.ClaimRequest) error {
	if !req.Gaps || req.Match != nil && !req.Match(outbox.GapName) {
		return nil
	}
	for _, reason := range outbox.GapReasons {
		u := s.gaps[reason]
		if u == nil {
			continue
		}
		if latest := s.findLocked(s.told[reason]); latest != nil && latest.State != outbox.Dead {
			continue
		}
		tasks := []outbox.Task{u.Task()}
		ids, last, err := s.assignLocked(tasks)
		if err != nil {
			return err
		}
		s.lastID = last
		s.acceptLocked(&tasks[0], ids[0], time.Now().Round(0).UTC(), now)
		s.findLocked(ids[0]).DueAt = u.DueAt(now)
		s.told[reason] = ids[0]
		delete(s.gaps, reason)
	}
	return nil
}
