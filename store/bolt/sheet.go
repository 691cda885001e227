package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// Places of one queue that follow each other share a key of the due bucket, that of the
// first of them. Its value lists the others, and is called a sheet:
//
//	version u8, 1 | for each: uvarint nanoseconds since the one before, ID | CRC of key and all that
//
// A place that is alone has an empty value, as all had up to format 3. No other place of
// the queue stands between the first and the last of a sheet. So whoever looks for a
// place finds it at its key, or in the sheet under the key before (place by place:
// placeCursor), and the order of keys is the order of places. With a key for each place,
// listing what waits took a checkpoint longer than writing it.
const (
	sheetVersion = 1
	sheetSpots   = 32 // of one that is new: some of them fill a page
	sheetMost    = 64 // it is split when more have come between
)

// readSheet appends the spots that a key of the due bucket and its value list. If the value
// is damaged, only that of the key is known. The key must be a place.
func readSheet(spots []spot, k, v []byte) ([]spot, error) {
	at := spotAtEnd(k)
	spots = append(spots, at)
	if len(v) == 0 {
		return spots, nil
	}
	first := len(spots)
	v, err := checkCRC(k, v)
	if err != nil {
		return spots, err
	}
	if len(v) == 0 || v[0] != sheetVersion {
		return spots, fmt.Errorf("%w: a sheet of %d bytes", outbox.ErrCorrupt, len(v))
	}
	for v = v[1:]; len(v) > 0; {
		since, n := binary.Uvarint(v)
		next := spot{when: at.when + int64(since)}
		if n <= 0 || len(v) < n+len(next.id) || next.when < at.when {
			return spots[:first], fmt.Errorf("%w: a sheet breaks off", outbox.ErrCorrupt)
		}
		copy(next.id[:], v[n:])
		if !at.before(next) {
			return spots[:first], fmt.Errorf("%w: the places of a sheet do not rise", outbox.ErrCorrupt)
		}
		spots, at, v = append(spots, next), next, v[n+len(next.id):]
	}
	return spots, nil
}

// appendSheet appends the value for a key and the spots behind it, nothing if there are none.
func appendSheet(b, k []byte, behind []spot) []byte {
	if len(behind) == 0 {
		return b
	}
	start, before := len(b), spotAtEnd(k).when
	b = append(b, sheetVersion)
	for _, p := range behind {
		b = binary.AppendUvarint(b, uint64(p.when-before))
		b = append(b, p.id[:]...)
		before = p.when
	}
	return binary.LittleEndian.AppendUint32(b, sum(k, b[start:]))
}

// queuePart is what of a place's key says the queue.
func queuePart(k []byte) []byte { return k[:len(k)-spotSize] }

// sameQueue reports whether a key is a place of the same queue as another one, which is a
// place.
func sameQueue(k, other []byte) bool {
	return len(k) == len(other) && bytes.Equal(queuePart(k), queuePart(other)) && (len(k) > spotSize || k[0] >= legacyByte)
}

// underKey finds the key under which a place is listed if it is: its own, or that of the
// sheet around it. The spots are those of that key, appended to some; without one k is nil.
// If its sheet is damaged, they are not all.
func underKey(due *bbolt.Bucket, at []byte, some []spot) (k []byte, spots []spot, damaged bool) {
	c := due.Cursor()
	k, v := c.Seek(at)
	if bytes.Equal(k, at) {
		spots, err := readSheet(some, k, v)
		return k, spots, err != nil
	}
	if k, v = keyBefore(c, at); len(v) == 0 || !sameQueue(k, at) {
		return nil, some, false
	}
	if spots, _ = readSheet(some, k, v); spots[len(spots)-1].before(spotAtEnd(at)) {
		return nil, some, false
	}
	return k, spots, false
}

// keyBefore returns the last key before one that was sought with this cursor. Where the
// transaction has emptied a page, bbolt's Prev stops there and its Last may not come back.
func keyBefore(c *bbolt.Cursor, at []byte) (k, v []byte) {
	if k, v = c.Prev(); k != nil {
		return k, v
	}
	if first, _ := c.Bucket().Cursor().First(); first == nil || bytes.Compare(first, at) >= 0 {
		return nil, nil
	}
	for n := 0; k == nil && n < emptiedMost; n++ {
		k, v = c.Prev()
	}
	return k, v
}

// emptiedMost is more pages than a transaction empties in a row: a damaged one must not keep
// anybody here for ever (P11).
const emptiedMost = 1 << 20

// findSpot returns where among rising spots one is, or belongs.
func findSpot(spots []spot, p spot) (i int, found bool) {
	return slices.BinarySearchFunc(spots, p, spot.compare)
}

// lists reports whether a place is listed.
func lists(due *bbolt.Bucket, p place) bool {
	at := p.key()
	_, spots, _ := underKey(due, at, nil)
	_, found := findSpot(spots, spotAtEnd(at))
	return found
}
