package wal

import "sync/atomic"

const (
	roundBytes  = 1 << 20 // a group takes no more calls when it has this much
	reusedBytes = 4 << 20 // larger buffers are not kept
)

// round is what one leader writes with one sync: everything that was queued when it took over. Guarded by Log.mu until
// it is the round being written; from then on buf and groups are the leader's.
type round struct {
	buf    []byte  // groups, each with room for its header in front and padded behind
	groups []draft // the groups in buf
	first  Position
	last   Position

	yields bool // some of it came through Queue: it rather fails than uses up the last spare

	callers atomic.Int32 // how many have come to wait for it, the leader among them
	waiting int          // how many of them are blocked
	sync    bool         // somebody wants everything synced, also of a lazy log
	left    bool         // one of them gave up: bring the records to an end without them

	done chan struct{} // closed by the leader when the outcome is known; made by the first who waits
	lead chan struct{} // gets one token, from the last leader, for whoever takes it first; made along with done
	over bool          // the outcome is known

	// The outcome. Records before failedFrom are durable; with a nil err all are.
	failedFrom Position
	err        error
}

// draft is a group that has its records but not yet its header.
type draft struct {
	start, end int // in round.buf, end without the padding
	records    uint32
	first      Position
}

func (d *draft) size() int64 { return alignUp(int64(d.end-d.start), groupAlign) }

// add puts records at the end of the round, all in one group: into the last group while that is small, else into a
// new one. bytes is what their payload takes, first the position of the first. A group that has
// records gets no larger than most, so that what needs a segment of its own does not take others along when there is no
// room for that.
func (r *round) add(first Position, bytes int, records [][]byte, most int) {
	n := len(r.groups)
	if n == 0 || r.groups[n-1].end-r.groups[n-1].start+bytes > most {
		var blank [groupBytes]byte
		start := len(r.buf)
		r.buf = append(r.buf, blank[:]...)
		r.groups = append(r.groups, draft{start: start, first: first})
		n++
	}
	if r.last == 0 {
		r.first = first
	}
	d := &r.groups[n-1]
	r.buf = r.buf[:max(d.end, d.start+groupBytes)] // takes the padding away
	for _, data := range records {
		r.buf = appendRecord(r.buf, data)
	}
	d.end = len(r.buf)
	d.records += uint32(len(records))
	r.last = first + Position(len(records)) - 1
	for len(r.buf)%groupAlign != 0 {
		r.buf = append(r.buf, 0)
	}
}

// outcome is what a caller that waited for p is told. The round must be over.
func (r *round) outcome(p Position) error {
	if r.err != nil && p >= r.failedFrom {
		return r.err
	}
	return nil
}

// failLocked sets the outcome for all records from this position on.
func (r *round) failLocked(from Position, err error) {
	r.failedFrom, r.err = from, err
}

// finishLocked tells everyone who waits.
func (r *round) finishLocked() {
	r.over = true
	if r.done != nil {
		close(r.done)
	}
}

// blockLocked counts one more who is about to wait.
func (r *round) blockLocked() {
	if r.done == nil {
		r.done, r.lead = make(chan struct{}), make(chan struct{}, 1)
	}
	r.waiting++
}

// inheritLocked reports whether the lead was meant for a caller that gives up, and nobody else is left to take it.
func (r *round) inheritLocked() bool {
	if r.waiting > 0 {
		return false
	}
	select {
	case <-r.lead:
		return true
	default:
		return false
	}
}

// buffers are those of the last round that was written. Those of a round that failed are never used again.
type buffers struct {
	buf    []byte
	groups []draft
}

func (b *buffers) keep(r *round) {
	if cap(r.buf) <= reusedBytes {
		b.buf, b.groups = r.buf[:0], r.groups[:0]
	}
	r.buf, r.groups = nil, nil
}

// newRoundLocked returns an empty round.
func (l *Log) newRoundLocked() *round {
	r := &round{buf: l.idle.buf, groups: l.idle.groups}
	l.idle = buffers{}
	return r
}
