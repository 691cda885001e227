package mem

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Claim takes waiting tasks that are due and leases them to the caller.
//
// It first drops all whose time-to-live has run out, due or not, so that none of
// them stands in the way of the next task of its key.
func (s *Store) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	var got outbox.Claimed
	err := s.step(ctx, func(now time.Time) error {
		s.expireLocked(now)
		if err := s.tellLocked(now, req); err != nil {
			return err
		}
		size, more := 0, false
		for due := s.dueLocked(now, req); len(due) > 0; {
			var e *entry
			e, due = s.nextLocked(due)
			first := len(got.Tasks) == 0
			if more = !first && len(got.Tasks) >= req.Max; more {
				break
			}
			if s.parkedLocked(e) {
				e.State, e.Reason, e.Token = outbox.Dead, outbox.ReasonKeyParked, 0
				s.endedLocked(e)
				s.buried.KeyParked++
				due = s.dueLocked(now, req) // with the next of its key
				continue
			}
			size += len(e.Payload)
			if more = !first && req.MaxBytes > 0 && size > req.MaxBytes; more {
				break
			}
			s.turns++
			s.leaseLocked(e, req.Lease, now)
			got.Tasks = append(got.Tasks, e.out())
		}
		if !more {
			got.NextIn = s.nextInLocked(now, req)
		}
		return nil
	})
	s.notify(false) // of a gap to tell, or the next of a key, which others may want
	return got, err
}

// expireLocked drops the waiting tasks whose time-to-live has run out. Those in
// flight may still be delivered, the dead ones may still be read.
func (s *Store) expireLocked(now time.Time) {
	for _, e := range slices.Clone(s.tasks) {
		if e.State == outbox.Waiting && !e.ExpiresAt.IsZero() && !e.ExpiresAt.After(now) {
			s.dropLocked(e, outbox.ReasonExpired)
		}
	}
}

// dueLocked returns what can be claimed now, in the order of claiming within a class.
func (s *Store) dueLocked(now time.Time, req outbox.ClaimRequest) []*entry {
	due := slices.DeleteFunc(s.matchingLocked(req), func(e *entry) bool { return e.DueAt.After(now) })
	slices.SortFunc(due, func(a, b *entry) int {
		if req.Newest {
			a, b = b, a
		}
		return cmp.Or(a.DueAt.Compare(b.DueAt), a.ID.Compare(b.ID))
	})
	return due
}

// matchingLocked returns the heads that the request is about.
func (s *Store) matchingLocked(req outbox.ClaimRequest) []*entry {
	return slices.DeleteFunc(s.headsLocked(), func(e *entry) bool { return req.Match != nil && !req.Match(e.Name) })
}

// nextLocked takes the task out of due whose turn it is.
func (s *Store) nextLocked(due []*entry) (next *entry, rest []*entry) {
	for _, class := range outbox.Turn(s.turns) {
		if i := slices.IndexFunc(due, func(e *entry) bool { return e.Priority == class }); i >= 0 {
			next = due[i]
			return next, slices.Delete(due, i, i+1)
		}
	}
	panic("mem: a task of no class") // acceptLocked has seen to that
}

// headsLocked returns, oldest ID first, the waiting tasks that stand behind no
// other: each without a Key, and the oldest of each Key, due or not, unless one of
// its Key is in flight. The one in flight need not be older: a dead letter may
// have been requeued meanwhile. Still they go one at a time (P4).
func (s *Store) headsLocked() []*entry {
	blocked := map[string]bool{"": false}
	for _, e := range s.tasks {
		if e.Key != "" && e.State == outbox.InFlight {
			blocked[e.Key] = true
		}
	}
	var heads []*entry
	for _, e := range s.tasks {
		if e.State != outbox.Waiting || blocked[e.Key] {
			continue
		}
		heads = append(heads, e)
		if e.Key != "" {
			blocked[e.Key] = true
		}
	}
	return heads
}

// headLocked reports whether e is among the heads.
func (s *Store) headLocked(e *entry) bool {
	return e.Key == "" || slices.Contains(s.headsLocked(), e)
}

// parkedLocked reports whether an older task of e's key is a dead letter that parks it.
func (s *Store) parkedLocked(e *entry) bool {
	return e.Key != "" && slices.ContainsFunc(s.tasks, func(d *entry) bool {
		return d.Key == e.Key && d.ID.Compare(e.ID) < 0 && d.ParksKey()
	})
}

// leaseLocked gives the task away under a new token, for [outbox.MaxLease] if the
// caller has not said how long, or said longer.
func (s *Store) leaseLocked(e *entry, lease time.Duration, now time.Time) {
	if lease <= 0 || lease > outbox.MaxLease {
		lease = outbox.MaxLease
	}
	s.lastToken++
	e.State, e.Token, e.leaseEnd = outbox.InFlight, s.lastToken, after(now, lease)
}

// lapseLocked ends the leases that have run out: the tasks wait again, with no
// attempt spent and due as before.
func (s *Store) lapseLocked(now time.Time) {
	for _, e := range slices.Clone(s.tasks) {
		if e.State == outbox.InFlight && !e.leaseEnd.After(now) {
			s.waitAgainLocked(e)
		}
	}
}

// waitAgainLocked puts a task back that was in flight, unless a newer LatestOnly
// task has come meanwhile.
func (s *Store) waitAgainLocked(e *entry) {
	if e.replaced {
		s.dropLocked(e, outbox.ReasonCoalesced)
		return
	}
	e.State = outbox.Waiting
	s.waitsLocked(e)
}

// nextInLocked returns how long until the passing of time alone may make a task
// claimable: until a head is due, or a head expires and lets the next one through,
// or a lease ends. It is called when nothing is claimable now.
func (s *Store) nextInLocked(now time.Time, req outbox.ClaimRequest) time.Duration {
	next := outbox.Forever
	for _, e := range s.headsLocked() {
		if req.Match == nil || req.Match(e.Name) {
			next = min(next, e.DueAt.Sub(now))
		}
		if e.Key != "" && !e.ExpiresAt.IsZero() {
			next = min(next, e.ExpiresAt.Sub(now))
		}
	}
	for _, e := range s.tasks {
		if e.State == outbox.InFlight {
			next = min(next, e.leaseEnd.Sub(now))
		}
	}
	return next
}
