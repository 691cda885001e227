package bolt

import (
	"bytes"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// placeCursor goes through the due bucket, forward or backward, place by place, whether a
// place has a key of its own or stands in a sheet.
type placeCursor struct {
	c     *bbolt.Cursor
	k     []byte // the key under which the place is, nil at the end
	spots []spot // of that key; of one that is no place, one that says nothing
	at    int

	bad []error // sheets of which only the first place can be read
	err error   // a page is damaged; k is nil
}

// spot is that of the place where the cursor stands.
func (l *placeCursor) spot() spot { return l.spots[l.at] }

// first goes to the first of all places.
func (l placeCursor) first() *placeCursor {
	l.open(l.c.First())
	return &l
}

// seek goes to a place or, if it is not listed, to the next one.
func (l *placeCursor) seek(at []byte) {
	l.err = nil
	k, v := l.c.Seek(at)
	if l.falls(at, k, k != nil && bytes.Compare(k, at) < 0) {
		return
	}
	if !bytes.Equal(k, at) {
		if l.inSheet(at) {
			return
		}
		k, v = l.c.Seek(at)
	}
	l.open(k, v)
	l.at = 0
}

// inSheet goes to a place, or the next one, if the sheet under the key before has
// it.
func (l *placeCursor) inSheet(at []byte) bool {
	k, v := keyBefore(l.c, at)
	if len(v) == 0 || !sameQueue(k, at) {
		return false
	}
	l.open(k, v)
	l.at, _ = findSpot(l.spots, spotAtEnd(at))
	return l.at < len(l.spots)
}

// seekBack goes to a place or, if it is not listed, to the one before.
func (l *placeCursor) seekBack(at []byte) {
	l.err = nil
	k, v := l.c.Seek(at)
	if bytes.Equal(k, at) {
		l.open(k, v)
		l.at = 0
		return
	}
	if l.falls(at, k, k != nil && bytes.Compare(k, at) < 0) {
		return
	}
	k, v = keyBefore(l.c, at)
	if l.falls(at, k, k != nil && bytes.Compare(k, at) >= 0) {
		return
	}
	l.open(k, v)
	if l.at = len(l.spots) - 1; k != nil && sameQueue(k, at) {
		i, _ := findSpot(l.spots, spotAtEnd(at)) // it is not there itself if the index is sound
		l.at = max(i-1, 0)
		if i < len(l.spots) && l.spots[i] == spotAtEnd(at) {
			l.at = i
		}
	}
}

// next goes to the next place.
func (l *placeCursor) next() {
	if l.at++; l.at < len(l.spots) {
		return
	}
	last := l.k
	k, v := l.c.Next()
	if !l.falls(last, k, k != nil && bytes.Compare(k, last) <= 0) {
		l.open(k, v)
		l.at = 0
	}
}

// prev goes to the place before.
func (l *placeCursor) prev() {
	if l.at--; l.at >= 0 {
		return
	}
	last := l.k
	k, v := l.c.Prev()
	if !l.falls(last, k, k != nil && bytes.Compare(k, last) >= 0) {
		l.open(k, v)
		l.at = len(l.spots) - 1
	}
}

// falls ends it where keys do not rise, see climb.
func (l *placeCursor) falls(from, k []byte, falls bool) bool {
	if falls {
		l.k, l.spots = nil, l.spots[:0]
		l.err = fmt.Errorf("%w: the keys of bucket %s do not rise, at %x after %x: a page is damaged", outbox.ErrCorrupt, bucketDue, k, from)
	}
	return falls
}

func (l *placeCursor) open(k, v []byte) {
	l.k, l.spots = k, l.spots[:0]
	if len(k) < spotSize {
		l.spots = append(l.spots, spot{})
		return
	}
	var err error
	if l.spots, err = readSheet(l.spots, k, v); err != nil {
		l.bad = append(l.bad, fmt.Errorf("bucket %s, at %x: %w", bucketDue, k, err))
	}
}
