package bolt

import (
	"cmp"
	"errors"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	bolterrors "go.etcd.io/bbolt/errors"
)

// pace is how much a checkpoint takes at a time, while there is little room.
type pace struct {
	most   int   // items of a transaction
	margin int64 // factor on what additions are expected to take
}

func newPace() *pace { return &pace{most: chunkEntries, margin: 1} }

// slower reports whether it is worth to try again with less at a time, after a
// transaction of n items found no room.
func (p *pace) slower(err error, n int, kind growth) bool {
	switch {
	case !isFull(err):
		return false
	case kind == toAdd && errors.Is(err, bolterrors.ErrMaxSizeReached) && p.margin < 64:
		p.margin *= 4 // the guess was too low; the disk may have more
		return true
	case n <= 1:
		return false
	}
	p.most = n / 2
	return true
}

// faster follows a transaction that found room.
func (p *pace) faster() { p.most, p.margin = min(2*p.most, chunkEntries), 1 }

// nextChunk decides how many items the next transaction takes, and sees to it that
// there is room for them. If the disk is full, tasks that wait no longer come first:
// they bring free pages. The others follow in the order of the log, so that it can
// be recycled as far as possible, as long as there are free pages beside the reserve
// (R31, R38).
func (s *Store) nextChunk(rest []item, p *pace) (n int, kind growth, err error) {
	n = chunk(rest, p.most)
	if removals(rest[:n]) == n {
		return n, toRemove, nil
	}
	full := s.refusal()
	if full == nil {
		if full, err = s.grow(rest[:n], p); err != nil || full == nil {
			return n, toAdd, err
		}
		s.markFull(full)
	}
	slices.SortStableFunc(rest, func(a, b item) int {
		if a.adds() != b.adds() {
			if b.adds() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.dirtyAt, b.dirtyAt)
	})
	n = chunk(rest, p.most)
	if n := removals(rest[:n]); n > 0 {
		return n, toRemove, nil
	}
	for ; n > 0 && errors.Is(full, outbox.ErrFull); n /= 4 { // the file may take some of them
		if no, err := s.grow(rest[:n], p); err != nil || no == nil {
			return n, toAdd, err
		}
	}
	if n = s.affordable(rest[:min(p.most, len(rest))]); n > 0 {
		return n, toRemove, nil
	}
	return 1, toAdd, full
}

// grow sees to it that there is room for the items, or says why there is none.
func (s *Store) grow(items []item, p *pace) (full, err error) {
	bytes := p.margin * s.need(items)
	switch err := s.extend(bytes); {
	case isFull(err):
		s.needed = bytes
		return err, nil
	default:
		return nil, err
	}
}

// adds reports whether the item makes the database larger. The place of a Unique key that
// stays taken is smaller than the task that it takes the place of.
func (it *item) adds() bool {
	return it.dirty && (it.target() != homeNone || it.spent != 0 && it.home == homeNone)
}

// removals is how many of the first items do not.
func removals(items []item) int {
	for i := range items {
		if items[i].adds() {
			return i
		}
	}
	return len(items)
}

// need guesses by how much the items make the file grow, and the reserve.
func (s *Store) need(items []item) int64 {
	bytes, largest := int64(64<<10), s.largest.Load()
	for i := range items {
		if raw := int64(len(items[i].raw)); items[i].adds() {
			bytes += raw*5/4 + 256 + 4*min(items[i].spent, 1)*int64(len(items[i].header.unique))
			largest = max(largest, raw)
		}
	}
	return bytes + 4*(largest-s.largest.Load())
}

// affordable is how many of the items, all of which add, fit into free pages and leave
// as many as the reserve has, even if each of them changes a page of its own in every
// bucket. If that is none, half of the reserve will do: a few tasks that have to wait
// may keep the whole log from being recycled, which then brings more than they take.
func (s *Store) affordable(items []item) int {
	if !s.owned || !reserves {
		return len(items) // nothing is known: the commit will tell
	}
	s.lockWriting()
	defer s.writing.Unlock()
	high, free, err := s.space()
	if err != nil {
		return 0 // who writes meets the same
	}
	for _, floor := range [...]int64{s.reserveWanted(), s.reserveWanted() / 2} {
		n, room := 0, free+max(0, s.reserved-high)-floor
		for n < len(items) {
			if room -= 6*int64(len(items[n].raw)) + 8*4096; room < 0 {
				break
			}
			n++
		}
		if n > 0 {
			return n
		}
	}
	return 0
}
