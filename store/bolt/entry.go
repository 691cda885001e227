package bolt

import (
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// entry is a task in memory. Its first part is what the log and the database say
// of it and changes only when the record that changes it is durable; its second
// part is about this moment and is forgotten when the store closes. The store's
// mutex guards both.
type entry struct {
	header
	raw []byte // the encoded task; its bytes never change once queued, and nil when it is gone

	state     outbox.State // Waiting or Dead
	gone      bool         // delivered or dropped; kept only until the database has forgotten it too
	reason    outbox.Reason
	sched     schedule
	home      home
	homeWhen  int64        // the time under which the database lists it
	rewritten bool         // raw is no longer what the database has
	dirtyAt   wal.Position // the first record that the database does not know; 0 = it knows all
	weighed   int64        // what overlay.bytes has of it
	changes   int          // counts durable changes, so that a checkpoint sees what moved on behind it
	flushing  bool         // a checkpoint may be writing it right now
	damaged   home         // where its value was that is damaged, and is raw as it is; homeNone if it is intact
	unsure    bool         // damaged: where it stands in the indexes is not known
	charged   home         // where it counts in Store.use
	spent     int64        // it was delivered, and its Unique key stays taken until then; 0 = not

	phase    phase
	due      int64 // when it may be claimed; sched.due, or later after a release
	when     int64 // when to look at it: due, or expires if that comes first
	token    uint64
	leaseEnd int64
	lease    int64  // wanted by Create
	granted  uint64 // the token that Create's caller got
	parking  bool   // it is in overlay.parks
	taken    int64  // until when its Unique key is taken, as the database says; for those who asked
	stale    bool   // a newer task of its LatestOnly key is there
	prior    *entry // until it is durable: the task that has its LatestOnly key if its record fails
	in       *queue // that it belongs to, while it is in memory
	at       int    // index in ready or latest of its queue; -1 = not there
	late     bool   // it is in latest
	leaving  bool   // it leaves that heap with many others: see thin
	leasedAt int    // index in leases; -1 = not there
	lane     *lane
	left     *lane // the lane that counts it among those that left

	older, newer *entry // the dirty list
}

// home is where the database keeps a task.
type home uint8

const (
	homeNone home = iota
	homeTasks
	homeDead
	homeDamaged // never that of an amount or of victims: see counts
)

// phase is what is happening to a task at the moment.
type phase uint8

const (
	queued   phase = iota // its create record is not durable yet: invisible
	idle                  // waits, or is dead
	claimed               // somebody is publishing it
	settling              // its outcome is in the log, but not durable yet
	ending                // the same, and after it nothing is left of the task
)

// What an entry costs in memory, for the overlay's bound (P7), as measured: itself,
// its places in the map of entries and in ready, and what the allocator rounds up;
// the same for its lane, for a place in unique or latest, and for a failure.
const (
	entrySize   = 480
	laneSize    = 160
	holderSize  = 50
	failureSize = 48
)

// weight is the entry's cost at this moment.
func (e *entry) weight() int64 {
	n := entrySize + len(e.raw) + len(e.key) + len(e.unique) + len(e.latest) + e.sched.weight()
	if e.key != "" {
		n += laneSize
	}
	if e.unique != "" {
		n += holderSize
	}
	if e.latest != "" {
		n += holderSize
	}
	return int64(n)
}

// weight is the schedule's part in that of its entry: the error texts may be larger
// than the event.
func (s *schedule) weight() (n int) {
	for _, f := range s.failures {
		n += failureSize + len(f.Error)
	}
	return n
}

func newEntry(h header, raw []byte) *entry {
	e := &entry{header: h, raw: raw, sched: schedule{due: h.due}, at: -1, leasedAt: -1}
	e.dueAt(h.due)
	return e
}

// dueAt sets when the entry may be claimed. If it expires before that, it must be
// looked at earlier, for the next of its key not to wait in vain.
func (e *entry) dueAt(due int64) {
	e.due, e.when = due, firstLook(due, e.expires)
}

// firstLook is when a task has to be looked at: it is due, or it has expired.
func firstLook(due, expires int64) int64 {
	if expires != 0 && expires < due {
		return expires
	}
	return due
}

// later returns now plus a delay, which may be as long as it likes.
func later(now int64, delay time.Duration) int64 {
	if delay <= 0 {
		return now
	}
	return now + min(int64(delay), never-now)
}

// durable reports whether the task was accepted: its create record took effect.
func (e *entry) durable() bool { return e.dirtyAt != 0 || e.home != homeNone }

// inDatabase reports whether the database holds the task, or may do so in a
// moment.
func (e *entry) inDatabase() bool { return e.home != homeNone || e.flushing }
