package bolt

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"

	"github.com/goutbox/goutbox/outbox"
)

// ids hands out IDs that only ever rise (P4): a fresh one for every new
// millisecond, the last one plus one within a millisecond and for as long as the
// clock is behind. The caller holds the store's mutex.
type ids struct {
	last   outbox.ID
	random *rand.ChaCha8
}

// newIDs continues after last.
func newIDs(last outbox.ID) *ids {
	var seed [32]byte
	crand.Read(seed[:]) // never fails: it would end the program
	return &ids{last: last, random: rand.NewChaCha8(seed)}
}

// next returns an ID above all before it, with ms milliseconds since 1970 as its
// time if those have not been passed yet.
func (g *ids) next(ms uint64) outbox.ID {
	if ms > g.last.Time() && ms <= outbox.MaxIDTime {
		var id outbox.ID
		_ = id.SetTime(ms)
		binary.BigEndian.PutUint16(id[6:], uint16(g.random.Uint64())&0x7fff) // room to count up
		binary.BigEndian.PutUint64(id[8:], g.random.Uint64())
		g.last = id
		return id
	}
	for i := len(g.last) - 1; i >= 0; i-- {
		g.last[i]++
		if g.last[i] != 0 {
			break
		}
	}
	return g.last
}

// skip passes over more IDs than one run hands out within a millisecond. What a power cut
// takes at a level below Always may have been delivered before: after it, and with
// a clock that is behind, its IDs must not come again, or consumers would take new
// events for old ones.
func (g *ids) skip() {
	n := binary.BigEndian.Uint64(g.last[:8]) // milliseconds, and the upper 16 random bits
	binary.BigEndian.PutUint64(g.last[:8], n+1)
	binary.BigEndian.PutUint64(g.last[8:], g.random.Uint64()>>1)
}

// saw makes sure that no ID up to id is handed out again.
func (g *ids) saw(id outbox.ID) {
	if id.Compare(g.last) > 0 {
		g.last = id
	}
}
