package mem

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// assignLocked returns the IDs that the tasks will have, and the highest of them
// and all before.
//
// An ID handed out is higher than every ID handed out or accepted before, so that
// tasks of one Key are delivered in the order they were accepted (P4), also if
// the wall clock has jumped back, or if the ones before came from another store.
func (s *Store) assignLocked(tasks []outbox.Task) (ids []outbox.ID, last outbox.ID, err error) {
	last = s.lastID
	ids = make([]outbox.ID, len(tasks))
	for i, t := range tasks {
		id := t.ID
		if id.Time() > outbox.MaxIDTime {
			return nil, last, fmt.Errorf("mem: create: task %d: no ID is left above %s: %w", i, id, outbox.ErrInvalid)
		}
		if id.IsZero() {
			id = next(last)
		}
		if id.Compare(last) > 0 {
			last = id
		}
		ids[i] = id
	}
	return ids, last, nil
}

// next returns an ID above last: with the wall clock's millisecond and fresh
// entropy if that is later, last plus one otherwise, and once the clock is beyond
// [outbox.MaxIDTime].
func next(last outbox.ID) (id outbox.ID) {
	if wall := uint64(max(time.Now().UnixMilli(), 0)); wall > last.Time() && wall <= outbox.MaxIDTime {
		_ = id.SetTime(wall) // it fits
		rand.Read(id[6:])    // never fails, says crypto/rand
		return id
	}
	id = last
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}
