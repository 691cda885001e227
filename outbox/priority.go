package outbox

// Priority is the class of an event: those of a higher class leave first, and no class
// starves, see [Turn]. The numbers are stored; do not change them.
type Priority int8

const (
	Low    Priority = -1 // what may wait: bulk telemetry
	Normal Priority = 0  // the default
	High   Priority = 1  // what must not: alarms
)

// Priorities lists all classes, the highest first.
var Priorities = [...]Priority{High, Normal, Low}

// String returns the word used in logs and listings.
func (p Priority) String() string {
	switch p {
	case High:
		return "high"
	case Normal:
		return "normal"
	case Low:
		return "low"
	}
	return "unknown"
}

// valid returns p, or Normal if there is no such class.
func (p Priority) valid() Priority {
	if p < Low || p > High {
		return Normal
	}
	return p
}

// turns is the length of the pattern of Turn.
const turns = 16

// Turn returns the order in which the classes are looked at when the n-th task is
// claimed, counted from 0. Of 16 tasks in a row 12 are the turn of the class High, 3
// that of Normal, 1 that of Low; a class that has nothing due gives its turn to the
// highest that has. So alarms wait for nobody, three in four of the turns at least,
// and with all classes busy Low gets a sixteenth.
//
// Stores use it, so that all of them share in the same way. Only tasks that are
// claimed count; a store may begin anew at 0 when it is opened.
func Turn(n uint64) [3]Priority {
	switch n % turns {
	case turns - 1:
		return [...]Priority{Low, High, Normal}
	case 3, 7, 11:
		return [...]Priority{Normal, High, Low}
	}
	return [...]Priority{High, Normal, Low}
}
