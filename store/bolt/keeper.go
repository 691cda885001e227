package bolt

import (
	"context"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// reportEvery is how often at most the log gets a line about what quotas drop.
const reportEvery = 10 * time.Second

// keeper drops what exceeds a quota and could not be dropped in the same step: dead
// letters, and what transactions have accepted. It also reports what was dropped. It
// is apart from the flusher, which may have to wait for the database's writer lock.
// Started by Open, if there is a quota, and ended by Close through stop, which waits
// for it.
func (s *Store) keeper() {
	var last time.Time
	var report <-chan time.Time
	for {
		select {
		case <-s.stop:
			s.reportDrops()
			return
		case <-s.wakeQuota:
			s.shrink(homeDead)
			s.shrink(homeTasks)
		case <-report:
			report = nil
		}
		if wait := reportEvery - time.Since(last); wait <= 0 {
			if s.reportDrops() {
				last = time.Now()
			}
		} else if report == nil {
			report = time.After(wait)
		}
	}
}

// overQuota is how much has to go. mu is held.
func (s *Store) overQuota(of home) amount {
	if of == homeTasks {
		return s.counted().excess(s.opts.quota)
	}
	if s.use[homeDead].tasks <= 1 {
		return amount{} // the newest is kept, however large
	}
	return s.use[homeDead].excess(s.opts.deadQuota)
}

// checkQuota has the keeper look after a home that has just been given more. mu is held.
func (s *Store) checkQuota(of home) {
	if !s.overQuota(of).none() {
		s.excess[of] = true
		wake(s.wakeQuota)
	}
}

// shrink drops the oldest of a home until its quota is kept, some hundred at a time, if
// checkQuota has said so: else what was there when the store was opened, or what was
// requeued, stays until more comes. What it can not drop now, it drops the next time.
func (s *Store) shrink(of home) {
	s.mu.Lock()
	more := s.excess[of]
	s.excess[of] = false
	s.mu.Unlock()
	for more {
		s.mu.Lock()
		over := s.overQuota(of)
		s.mu.Unlock()
		if over.none() || s.makeRoom(context.Background()) != nil {
			return
		}
		most, limit := s.atOnce(nil)
		err := s.findVictims(of, most, limit, func(further bool) error {
			picked, rest := s.pick(of, s.overQuota(of))
			more = further && !rest.none()
			return s.recordLocked(s.drop(picked))
		})
		if err != nil {
			_ = s.translate(err) // a failure poisons the store, and every caller is told
			return
		}
	}
}

// buried notes that an entry is a dead letter, for the quota of those. mu is held.
func (s *Store) buried(e *entry) {
	s.overlay.victims[homeDead].saw(e.id)
	if s.live {
		s.checkQuota(homeDead)
	}
}

// dropped is what quotas have dropped since the last line in the log.
type dropped struct {
	events      int
	first, last outbox.ID
}

// noteDrop counts a drop that is durable, for the log. mu is held.
func (s *Store) noteDrop(c *change) {
	if c.kind != opDrop || c.op.drop != dropQuota || !s.live {
		return
	}
	d := &s.drops[homeTasks]
	if c.op.wasDead {
		d = &s.drops[homeDead]
	}
	if d.events == 0 || c.e.id.Compare(d.first) < 0 {
		d.first = c.e.id
	}
	if d.events == 0 || c.e.id.Compare(d.last) > 0 {
		d.last = c.e.id
	}
	if d.events++; d.events == 1 {
		wake(s.wakeQuota)
	}
}

// reportDrops writes a line about what was dropped since the last one, so that a gap in
// what arrives is never a riddle.
func (s *Store) reportDrops() (reported bool) {
	s.mu.Lock()
	drops := s.drops
	s.drops = [3]dropped{}
	s.mu.Unlock()
	for of, text := range [...]string{homeTasks: "outbox: oldest events dropped, for the quota", homeDead: "outbox: oldest dead letters dropped, for their quota"} {
		if d := drops[of]; d.events > 0 {
			reported = true
			s.opts.logger.Warn(text, "store", s.dir, "events", d.events, "first", d.first.String(), "last", d.last.String())
		}
	}
	return reported
}
