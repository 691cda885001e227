package bolt

import (
	"fmt"
	"strings"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// Salvaged is what [Salvage] found, did and could not keep.
type Salvaged struct {
	Found Report   // what Verify said before
	Aside []string // damaged files, under the names that they have now, in the store's folder

	Waiting uint64 // tasks that wait now, and will be delivered
	Dead    uint64 // dead letters now, the damaged ones among them
	Damaged uint64 // of these: values that are kept, but not whole; see outbox.ReasonDamaged

	// Lost are the tasks that are known to be lost, because an index or the log names
	// them: the first ten thousand, in order. LostMore counts the others.
	Lost     []outbox.ID
	LostMore int

	// LostWaiting and LostDead are how many tasks the database had more, by its own
	// count, than were found in it. They include those of Lost, and some of these may
	// have been settled since: then the log says so, and they are not lost. -1: that count
	// is damaged, too.
	LostWaiting, LostDead int64

	// LostRecords are the log's records that are missing: events that were accepted, and
	// what became of others. A range whose end is 0 goes to the end of the log.
	LostRecords []Range

	// Schedules counts tasks that are intact, but whose schedule was not: they are due, and
	// begin with their first attempt. Pages counts pages of the database that belong to
	// something that is lost and cannot be told.
	Schedules, Pages int

	// Spent counts Unique keys that were taken after a delivery (UniqueFor), and are free
	// now, for their values were not intact.
	Spent int

	// WrittenOff is by how much Stats.Accepted was corrected: from now on it is what is
	// left, with what was delivered and dropped, so P5 holds. Positive: so many are no
	// longer counted as accepted.
	WrittenOff int64
}

// Range is a range of records of the log, both ends included.
type Range struct{ From, To wal.Position }

// Changed reports whether anything was changed in the folder.
func (s *Salvaged) Changed() bool { return len(s.Aside) > 0 }

// String is the account for people to read.
func (s *Salvaged) String() string {
	var b strings.Builder
	if s.Found.OK() {
		return s.Found.String() + "nothing to salvage\n"
	}
	b.WriteString("found: " + s.Found.String())
	fmt.Fprintf(&b, "left: %d tasks wait, %d are dead, %d of these are damaged\n", s.Waiting, s.Dead, s.Damaged)
	for _, name := range s.Aside {
		fmt.Fprintf(&b, "set aside: %s\n", name)
	}
	fmt.Fprintf(&b, "lost from the database: %s that waited, %s that were dead\n", count(s.LostWaiting), count(s.LostDead))
	for _, id := range s.Lost {
		fmt.Fprintf(&b, "lost: task %s\n", id)
	}
	if s.LostMore > 0 {
		fmt.Fprintf(&b, "lost: and %d more\n", s.LostMore)
	}
	for _, r := range s.LostRecords {
		if r.To == 0 {
			fmt.Fprintf(&b, "lost from the log: record %d, if there was one, and all after it\n", r.From)
			continue
		}
		fmt.Fprintf(&b, "lost from the log: records %d to %d\n", r.From, r.To)
	}
	fmt.Fprintf(&b, "%d schedules lost, %d pages that cannot be told, %d events written off\n", s.Schedules, s.Pages, s.WrittenOff)
	if s.Spent > 0 {
		fmt.Fprintf(&b, "%d unique keys are free that were taken since a delivery\n", s.Spent)
	}
	return b.String()
}

func count(n int64) string {
	if n < 0 {
		return "an unknown number"
	}
	return fmt.Sprint(n)
}
