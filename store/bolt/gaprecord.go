package bolt

import (
	"encoding/binary"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// append appends the encoding: for each reason u64 count, first and last ID, i64 created
// first and last, i64 due, u8 class + 1; then the latest gap event, u8 1 if it waits,
// i64 its cost.
func (g *gaps) append(b []byte) []byte {
	for i := range g {
		u := &g[i].untold
		var times [3]int64
		if u.Count > 0 {
			times = [...]int64{nanos(u.From), nanos(u.To), nanos(u.Due)}
		}
		b = binary.LittleEndian.AppendUint64(b, u.Count)
		b = append(append(b, u.First[:]...), u.Last[:]...)
		for _, t := range times {
			b = binary.LittleEndian.AppendUint64(b, uint64(t))
		}
		b = append(append(b, byte(u.Priority+1)), g[i].last[:]...)
		var open byte
		if g[i].open {
			open = 1
		}
		b = binary.LittleEndian.AppendUint64(append(b, open), uint64(g[i].cost))
	}
	return b
}

func (r *reader) gaps() (g gaps) {
	for i := range g {
		u := outbox.Untold{Gap: outbox.Gap{Count: uint64(r.int64()), First: r.id(), Last: r.id(), From: wall(r.int64()), To: wall(r.int64())}}
		u.Due, u.Priority = wall(r.int64()), r.class()
		if u.Reason = outbox.GapReasons[i]; u.Count > 0 {
			g[i].untold = u
		}
		g[i].last = r.id()
		open := r.byte()
		r.bad = r.bad || open > 1
		g[i].open, g[i].cost = open == 1, r.int64()
	}
	return g
}

func (r *reader) class() outbox.Priority {
	c := r.byte()
	r.bad = r.bad || c > byte(outbox.High+1)
	return outbox.Priority(c) - 1
}

// appendLost appends what a drop leaves untold: u8 class + 1, i64 due, i64 created; of a
// gap event, which is told again, then u8 index of the reason, uvarint count, first and
// last ID, i64 created last.
func (o *op) appendLost(b []byte) []byte {
	u := o.lost
	b = append(b, byte(u.Priority+1))
	b = binary.LittleEndian.AppendUint64(b, uint64(nanos(u.Due)))
	b = binary.LittleEndian.AppendUint64(b, uint64(nanos(u.From)))
	if !o.retells() {
		return b
	}
	b = append(b, byte(slices.Index(outbox.GapReasons[:], u.Reason)))
	b = binary.AppendUvarint(b, u.Count)
	b = append(append(b, u.First[:]...), u.Last[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(nanos(u.To)))
}

// retells reports whether a drop is of a gap event.
func (o *op) retells() bool { return o.lost != nil && o.lost.First != o.id }

// lost is the reverse of appendLost.
func (r *reader) lost(o *op, retells bool) {
	u := new(outbox.Untold)
	o.lost = u
	u.Priority, u.Due, u.From = r.class(), wall(r.int64()), wall(r.int64())
	if !retells {
		r.bad = r.bad || o.drop != dropQuota && o.drop != dropExpired
		u.Reason, u.Count, u.First, u.Last, u.To = dropReasons[o.drop], 1, o.id, o.id, u.From
		return
	}
	i := r.byte()
	if r.bad = r.bad || int(i) >= len(outbox.GapReasons); r.bad {
		return
	}
	u.Reason, u.Count, u.First, u.Last, u.To = outbox.GapReasons[i], r.uvarint(), r.id(), r.id(), wall(r.int64())
}
