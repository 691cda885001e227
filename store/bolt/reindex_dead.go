package bolt

import (
	"bytes"

	"github.com/goutbox/goutbox/outbox"
)

// wrongPark reports whether a place of the parked bucket is wrong. That of a damaged dead
// letter stays until the letter is met.
func (x *indexer) wrongPark(k, _ []byte) bool {
	key, id, ok := keyAndID(k)
	if !ok || !parksIn(x.w.b, key, id) {
		x.w.keys[string(key)] = true
		return true
	}
	return false
}

// missingPark puts a dead letter that parks its key into the parked bucket, if it is not
// there.
func (x *indexer) missingPark(k, v []byte) error {
	if len(k) != len(outbox.ID{}) {
		return nil
	}
	l := loadDead(x.w.b, outbox.ID(k), v)
	if l.bad != nil || !l.header.parksFor(l.reason) {
		return nil
	}
	place := keyPlace(l.header.key, l.header.id)
	if err := x.w.makeParked(); err != nil || has(x.w.b.parked, place) {
		return err
	}
	x.puts++
	x.w.keys[l.header.key] = true
	return x.w.b.parked.Put(place, nil)
}

// wrongSpent reports whether a pair of the spent bucket is wrong: what is listed by time
// must be there, and what is there must be intact.
func (x *indexer) wrongSpent(k, v []byte) bool {
	if len(k) > 0 && k[0] == 'k' {
		_, err := readSpent(k, v)
		return err != nil
	}
	until, key, ok := spentOf(k)
	if !ok {
		return true
	}
	place := spentPlace(string(key))
	is, err := readSpent(place, x.w.b.spent.Get(place))
	return err != nil || is != until
}

// missingSpent lists Unique keys by time that are not.
func (x *indexer) missingSpent() error {
	if x.w.b.spent == nil {
		return nil
	}
	for from := []byte{'k'}; ; {
		var missing [][]byte
		c := x.w.b.spent.Cursor()
		k, v := c.Seek(from)
		for ; len(k) > 0 && k[0] == 'k' && len(missing) < mendAtOnce; k, v = c.Next() {
			if until, err := readSpent(k, v); err == nil && !has(x.w.b.spent, spentWhen(until, k[1:])) {
				missing = append(missing, spentWhen(until, k[1:]))
			}
		}
		from = bytes.Clone(k)
		for _, k := range missing {
			x.puts++
			if err := x.w.b.spent.Put(k, nil); err != nil {
				return err
			}
		}
		if len(from) == 0 || from[0] != 'k' {
			return nil
		}
	}
}
