package bolt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"strings"

	"github.com/goutbox/goutbox/outbox"
)

// place is where a task stands in the due bucket: in its queue, at a spot.
type place struct {
	queue queueName
	spot
}

// at returns the task's place if it is to be looked at then.
func (h *header) at(when int64) place { return place{h.queue, spot{when, h.id}} }

// place returns where the task has to be listed.
func (l *loaded) place() place { return l.header.at(firstLook(l.sched.due, l.header.expires)) }

const spotSize = 8 + 16

// legacyByte is the least that a key of the legacy queue begins with: times of this age
// begin with far higher ones.
const (
	legacyByte = 3
	legacyWhen = legacyByte<<56 - 1<<63
)

// key is the place's key in the bucket:
//
//	class u8, 0 = High | length of the name u8 | name | when u64, its sign reversed | ID
//
// The legacy queue has when and ID alone.
func (p place) key() []byte { return p.append(make([]byte, 0, 2+len(p.queue.name)+spotSize)) }

// append appends the place's key.
func (p place) append(k []byte) []byte {
	k = p.queue.append(k)
	if p.queue.legacy {
		p.when = max(p.when, legacyWhen)
	}
	return p.spot.append(k)
}

// append appends what a place of the spot ends with.
func (p spot) append(k []byte) []byte {
	k = binary.BigEndian.AppendUint64(k, uint64(p.when)^(1<<63))
	return append(k, p.id[:]...)
}

// compare is the order of keys.
func (p place) compare(q place) int {
	if a, b := p.queue, q.queue; a != b {
		switch {
		case a.legacy:
			return 1
		case b.legacy:
			return -1
		}
		return cmp.Or(cmp.Compare(b.class, a.class), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	}
	return p.spot.compare(q.spot)
}

// within reports whether a place is not behind the last one of the key before it in the due
// bucket: no sheet may have places of others between its own.
func (p place) within(last place) bool { return p.queue == last.queue && !last.before(p.spot) }

// placeOf is the reverse of key.
func placeOf(k []byte) (p place, ok bool) {
	if len(k) < spotSize {
		return p, false
	}
	head := k[:len(k)-spotSize]
	switch {
	case len(head) == 0 && k[0] >= legacyByte:
		p.queue.legacy = true
	case len(head) < 2 || head[0] >= legacyByte || int(head[1]) != len(head)-2:
		return p, false
	default:
		p.queue.class, p.queue.name = outbox.High-outbox.Priority(head[0]), string(head[2:])
	}
	p.spot = spotAtEnd(k)
	return p, true
}

// spotAtEnd reads the spot that a place ends with.
func spotAtEnd(k []byte) (p spot) {
	k = k[len(k)-spotSize:]
	p.when = int64(binary.BigEndian.Uint64(k) ^ (1 << 63))
	copy(p.id[:], k[8:])
	return p
}

// spotIn reads a place of the queue that has this prefix, without making a string of its
// name.
func spotIn(prefix, k []byte) (p spot, ok bool) {
	if len(k) != len(prefix)+spotSize || !bytes.HasPrefix(k, prefix) || len(prefix) == 0 && k[0] < legacyByte {
		return p, false
	}
	return spotAtEnd(k), true
}

// stampQueue writes into an encoded task whether it waits in the queue of its name.
func stampQueue(raw []byte, crowd bool) {
	raw[atManner] &^= mannerCrowd
	if crowd {
		raw[atManner] |= mannerCrowd
	}
}

// nameIn reads the event's name out of an encoded task that was checked before.
func nameIn(raw []byte) string {
	r := reader{b: raw[fixedSize(raw):]}
	return string(r.bytes())
}

// queueOf returns where a task waits.
func queueOf(raw []byte, t *outbox.Task) queueName {
	switch {
	case fixedSize(raw) == taskFixed1:
		return queueName{legacy: true}
	case mannerOf(raw)&mannerCrowd != 0 || len(t.Name) > outbox.MaxNameBytes:
		return queueName{class: t.Priority}
	}
	return queueName{class: t.Priority, name: t.Name}
}
