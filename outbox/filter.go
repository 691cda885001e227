package outbox

import (
	"slices"
	"strings"
	"time"
)

// Filter chooses tasks of a listing. What is zero chooses nothing out, so the zero
// Filter lists everything that waits, is in flight or is dead, oldest first.
type Filter struct {
	States []State   // any of these; none = all
	Name   string    // this event name; "" = all
	Key    string    // this ordering key; "" = all
	Reason Reason    // dead for this reason; "" = all
	Error  string    // an error that the task remembers has this in its text; "" = all
	Since  time.Time // accepted then or later, by the wall clock of that moment; zero = all
	Before time.Time // accepted before; zero = all
	After  ID        // only tasks with a higher ID: where the last page ended
	Limit  int       // at most so many; 0 = all
}

// Match reports whether t is one of those chosen, Limit aside.
func (f Filter) Match(t Task) bool {
	return f.Wants(t.State) &&
		(f.Name == "" || f.Name == t.Name) &&
		(f.Key == "" || f.Key == t.Key) &&
		(f.Reason == "" || f.Reason == t.Reason) &&
		(f.Since.IsZero() || !t.CreatedAt.Before(f.Since)) &&
		(f.Before.IsZero() || t.CreatedAt.Before(f.Before)) &&
		(f.Error == "" || slices.ContainsFunc(t.Failures, func(one Failure) bool { return strings.Contains(one.Error, f.Error) })) &&
		t.ID.Compare(f.After) > 0
}

// Wants reports whether tasks in state s are chosen.
func (f Filter) Wants(s State) bool {
	return len(f.States) == 0 || slices.Contains(f.States, s)
}

// all reports whether f chooses nothing out.
func (f Filter) all() bool {
	return len(f.States) == 0 && f.Name == "" && f.Key == "" && f.Reason == "" && f.Error == "" &&
		f.Since.IsZero() && f.Before.IsZero() && f.After == ID{} && f.Limit <= 0
}
