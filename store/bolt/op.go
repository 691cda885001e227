package bolt

import (
	"encoding/binary"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// A log record is one operation or several, one behind the other; being one
// record they take effect together or not at all. Each begins with its kind and
// carries absolute values, so that replaying a part of the log twice ends in the
// same state (R30).
//
//	create   flags (1: replaces, 2: schedule, 4: outdates), ID of the other or zeros, u32 length, task, [schedule]
//	done     ID
//	retry    ID, i64 clock, i64 due, uvarint attempts, failure
//	bury     ID, i64 clock, i64 due, uvarint attempts, failure, reason
//	drop     ID, u8 reason, plus 128 if it was a dead letter, plus 64 if gaps tell of it: then
//	         follows what that leaves untold; plus 32 if it was itself a gap event: then more of it
//	requeue  ID, i64 clock, which is also when it is due
//	damage   ID, u8 1 if it was a dead letter already
//	park     ID, i64 clock
//	spend    ID, i64 clock: done, and the Unique key stays taken
//	base     u64 position of the checkpoint it follows, ledger since then, last ID, i64 clock
//	gaps     what is untold and told; in the record of what has changed it, or of a base
type opKind uint8

const (
	opCreate  opKind = 1 // 0 is never valid
	opDone    opKind = 2
	opRetry   opKind = 3
	opBury    opKind = 4
	opDrop    opKind = 5
	opRequeue opKind = 6
	opBase    opKind = 7
	opDamage  opKind = 8
	opGaps    opKind = 9
	opPark    opKind = 11 // dead, because its key is parked
	opSpend   opKind = 12 // done; its Unique key stays taken from this clock on
)

// op is one decoded operation.
type op struct {
	kind     opKind
	id       outbox.ID
	raw      []byte         // create: the task; aliases the record
	sched    *schedule      // create: of a task that was tried elsewhere, or was imported; or nil
	replaces outbox.ID      // create: the waiting task whose LatestOnly key it takes over, which is dropped; or zero
	outdates outbox.ID      // create: the same of one in flight, which is dropped if it comes back; or zero
	clock    int64          // retry, bury, requeue, park, spend: the store's time when it was written
	due      int64          // retry, bury
	attempts int            // retry, bury
	failure  outbox.Failure // retry, bury
	reason   outbox.Reason  // bury
	drop     uint8          // drop: index of dropReasons
	wasDead  bool           // drop, damage
	lost     *outbox.Untold // drop: what gaps will tell of it, or nil, also in records of format 2
	base     baseline       // base
	gaps     *gaps          // gaps
}

// baseline lets the log begin in its middle: it is the sum of all that records
// since the last checkpoint did to the ledger, for a log whose beginning was
// recycled because nothing in it was still needed.
type baseline struct {
	checkpoint wal.Position
	since      ledger
	lastID     outbox.ID
	clock      int64
}

// Flags beside the reason of a drop.
const (
	wasDeadBit = 0x80
	lostBit    = 0x40
	retoldBit  = 0x20
)

// createPrefix is what a create record has in front of the task.
const createPrefix = 1 + 1 + 16 + 4

const (
	flagReplaces = 1
	flagSchedule = 2
	flagOutdates = 4
)

// sealCreate fills in the first createPrefix bytes of a record whose task is
// complete, and returns the record. A task that comes from another store may have
// been tried there already: its schedule follows it.
func sealCreate(rec []byte, replaces, outdates outbox.ID, s *schedule) []byte {
	rec[0], rec[1] = byte(opCreate), 0
	if replaces != (outbox.ID{}) {
		rec[1] |= flagReplaces
	}
	copy(rec[2:18], replaces[:])
	if outdates != (outbox.ID{}) {
		rec[1] |= flagOutdates
		copy(rec[2:18], outdates[:])
	}
	binary.LittleEndian.PutUint32(rec[18:], uint32(len(rec)-createPrefix))
	if s.attempts > 0 || len(s.failures) > 0 {
		rec[1] |= flagSchedule
		rec = appendSchedule(rec, s)
	}
	return rec
}

// sealImport is sealCreate for a task that another store has accepted. It always has a
// schedule, by which recovery knows that the task does not say what the wall clock showed
// when this store accepted it. One that is dead from the beginning has its death in the
// same record.
func sealImport(rec []byte, replaces, outdates outbox.ID, s *schedule, died *op) []byte {
	rec = sealCreate(rec, replaces, outdates, s)
	if rec[1]&flagSchedule == 0 {
		rec[1] |= flagSchedule
		rec = appendSchedule(rec, s)
	}
	if died != nil {
		rec = died.append(rec)
	}
	return rec
}

// append appends the encoding of every kind but create.
func (o *op) append(b []byte) []byte {
	b = append(b, byte(o.kind))
	if o.kind == opGaps {
		return o.gaps.append(b)
	}
	if o.kind == opBase {
		b = binary.LittleEndian.AppendUint64(b, uint64(o.base.checkpoint))
		b = o.base.since.append(b)
		b = append(b, o.base.lastID[:]...)
		return binary.LittleEndian.AppendUint64(b, uint64(o.base.clock))
	}
	b = append(b, o.id[:]...)
	switch o.kind {
	case opRetry, opBury:
		b = binary.LittleEndian.AppendUint64(b, uint64(o.clock))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.due))
		b = binary.AppendUvarint(b, uint64(o.attempts))
		b = appendFailure(b, o.failure)
		if o.kind == opBury {
			b = appendText(b, string(o.reason))
		}
	case opDrop:
		b = o.appendDrop(b)
	case opRequeue, opPark, opSpend:
		b = binary.LittleEndian.AppendUint64(b, uint64(o.clock))
	case opDamage:
		var was byte
		if o.wasDead {
			was = 1
		}
		b = append(b, was)
	}
	return b
}

// appendDrop appends what follows the ID of a drop.
func (o *op) appendDrop(b []byte) []byte {
	v := o.drop
	if o.wasDead {
		v |= wasDeadBit
	}
	if o.lost == nil {
		return append(b, v)
	}
	if v |= lostBit; o.retells() {
		v |= retoldBit
	}
	return o.appendLost(append(b, v))
}

// decodeOps calls f for each operation of a record.
func decodeOps(record []byte, f func(op) error) error {
	r := reader{b: record}
	for len(r.b) > 0 {
		o, err := r.op()
		if err != nil {
			return err
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) op() (op, error) {
	o := op{kind: opKind(r.byte())}
	switch o.kind {
	case opCreate:
		flags := r.byte()
		other := r.id()
		switch flags &^ flagSchedule {
		case 0:
			r.bad = r.bad || other != outbox.ID{}
		case flagReplaces:
			o.replaces = other
		case flagOutdates:
			o.outdates = other
		default:
			r.bad = true
		}
		o.raw = r.take(int(r.uint32()))
		if flags&flagSchedule != 0 {
			sched := r.schedule()
			o.sched = &sched
		}
	case opBase:
		o.base.checkpoint = wal.Position(r.int64())
		o.base.since = r.ledger()
		o.base.lastID = r.id()
		o.base.clock = r.int64()
	case opGaps:
		g := r.gaps()
		o.gaps = &g
	case opDone, opRetry, opBury, opDrop, opRequeue, opDamage, opPark, opSpend:
		o.id = r.id()
		r.rest(&o)
	default:
		return o, fmt.Errorf("%w: unknown operation %d in a log record", outbox.ErrCorrupt, o.kind)
	}
	if r.bad {
		return o, fmt.Errorf("%w: operation %d in a log record is cut short", outbox.ErrCorrupt, o.kind)
	}
	return o, nil
}

// rest reads what follows the ID.
func (r *reader) rest(o *op) {
	switch o.kind {
	case opRetry, opBury:
		o.clock, o.due, o.attempts, o.failure = r.int64(), r.int64(), int(r.uvarint()), r.failure()
		if o.kind == opBury {
			o.reason = outbox.Reason(r.bytes())
		}
	case opDrop:
		v := r.byte()
		o.drop, o.wasDead = v&^(wasDeadBit|lostBit|retoldBit), v&wasDeadBit != 0
		if int(o.drop) >= len(dropReasons) || v&(lostBit|retoldBit) == retoldBit {
			r.bad = true
		} else if v&lostBit != 0 {
			r.lost(o, v&retoldBit != 0)
		}
	case opRequeue, opPark, opSpend:
		o.clock = r.int64()
	case opDamage:
		was := r.byte()
		o.wasDead, r.bad = was == 1, r.bad || was > 1
	}
}

// effect is what the operation does to the ledger, whatever state it meets: a
// record is written only when it is true (P5).
func (o *op) effect() (l ledger) {
	switch o.kind {
	case opCreate:
		l.accepted = 1
		if o.replaces != (outbox.ID{}) {
			l.dropped[dropCoalesced] = 1
		}
	case opDone, opSpend:
		l.delivered = 1
	case opBury, opPark:
		l.dead = 1
	case opDrop:
		l.dropped[o.drop] = 1
		if o.wasDead {
			l.dead = -1
		}
	case opRequeue:
		l.dead, l.requeued = -1, 1
	case opDamage:
		if !o.wasDead {
			l.dead = 1
		}
	}
	return l
}
