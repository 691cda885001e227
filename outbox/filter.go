package outbox

import "slices"

// Filter chooses tasks of a listing. The zero Filter lists everything that waits,
// is in flight or is dead, oldest first.
type Filter struct {
	States []State // any of these; none = all
	Name   string  // this event name; "" = all
	Key    string  // this ordering key; "" = all
	After  ID      // only tasks with a higher ID: where the last page ended
	Limit  int     // at most so many; 0 = all
}

// Match reports whether t is one of those chosen, Limit aside.
func (f Filter) Match(t Task) bool {
	return f.Wants(t.State) &&
		(f.Name == "" || f.Name == t.Name) &&
		(f.Key == "" || f.Key == t.Key) &&
		t.ID.Compare(f.After) > 0
}

// Wants reports whether tasks in state s are chosen.
func (f Filter) Wants(s State) bool {
	return len(f.States) == 0 || slices.Contains(f.States, s)
}
