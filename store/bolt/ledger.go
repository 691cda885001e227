package bolt

import (
	"encoding/binary"

	"github.com/goutbox/goutbox/outbox"
)

// ledger is what P5 is about: what became of every event ever accepted. It is
// changed by log records only, each of which changes it in one known way, so that
// replaying them gives the same sums.
type ledger struct {
	accepted  int64
	delivered int64
	dead      int64 // now
	requeued  int64 // ever
	dropped   [4]int64
}

// Reasons as the log and the ledger number them; never renumber.
var dropReasons = [4]outbox.Reason{outbox.ReasonExpired, outbox.ReasonCoalesced, outbox.ReasonQuota, outbox.ReasonDeleted}

const (
	dropExpired = iota
	dropCoalesced
	dropQuota
	dropDeleted
)

// add adds o times sign, which is 1 or -1.
func (l *ledger) add(o ledger, sign int64) {
	l.accepted += sign * o.accepted
	l.delivered += sign * o.delivered
	l.dead += sign * o.dead
	l.requeued += sign * o.requeued
	for i := range l.dropped {
		l.dropped[i] += sign * o.dropped[i]
	}
}

// waiting is what must be in the store and not dead.
func (l *ledger) waiting() int64 {
	n := l.accepted - l.delivered - l.dead
	for _, d := range l.dropped {
		n -= d
	}
	return n
}

func (l *ledger) append(b []byte) []byte {
	for _, v := range [...]int64{l.accepted, l.delivered, l.dead, l.requeued, l.dropped[0], l.dropped[1], l.dropped[2], l.dropped[3]} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func (r *reader) ledger() ledger {
	l := ledger{accepted: r.int64(), delivered: r.int64(), dead: r.int64(), requeued: r.int64()}
	for i := range l.dropped {
		l.dropped[i] = r.int64()
	}
	return l
}
