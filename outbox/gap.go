package outbox

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// GapName is the name of the event that tells the receiver of a gap. Names that begin
// with "goutbox." are the outbox's own: Enqueue refuses them.
const GapName = "goutbox.gap"

const ownNames = "goutbox."

// Gap is the payload, as JSON, of an event named [GapName]: events that were accepted
// and will not come, because a policy has dropped them. See [WithGapMarkers].
type Gap struct {
	Reason Reason    `json:"reason"` // [ReasonQuota] or [ReasonExpired]
	Count  uint64    `json:"count"`  // how many
	First  ID        `json:"first"`  // the lowest ID of them
	Last   ID        `json:"last"`   // the highest; events in between may have been delivered
	From   time.Time `json:"from"`   // when the first of them was accepted, by the wall clock
	To     time.Time `json:"to"`     // when the last was
}

// GapReasons lists the reasons of which gaps tell. The others are no gaps: what was
// coalesced has been replaced by something newer, what was deleted the user knows of.
var GapReasons = [...]Reason{ReasonQuota, ReasonExpired}

// tells reports whether gaps tell of drops for that reason.
func tells(why Reason) bool { return slices.Contains(GapReasons[:], why) }

// Untold is what a [Store] keeps of the events that it has dropped for one reason and
// that no gap has told of yet. The zero Untold is empty. Stores use it, so that all of
// them tell the same.
type Untold struct {
	Gap
	Due      time.Time // the earliest due time of them, on the store's clock
	Priority Priority  // their highest class
}

// UntoldOf returns what is untold when a store drops t, which is as it is listed, for
// that reason: empty if gaps do not tell of it. An event named [GapName], which only
// the quota of dead letters may drop, leaves untold what it would have told.
func UntoldOf(t Task, why Reason) Untold {
	if !tells(why) {
		return Untold{}
	}
	u := Untold{Due: t.DueAt, Priority: t.Priority}
	if t.Name == GapName && json.Unmarshal(t.Payload, &u.Gap) == nil && tells(u.Reason) && u.Count > 0 {
		return u
	}
	u.Gap = Gap{Reason: why, Count: 1, First: t.ID, Last: t.ID, From: t.CreatedAt, To: t.CreatedAt}
	return u
}

// Add adds what is untold of the same reason. The order in which it comes makes no
// difference.
func (u *Untold) Add(o Untold) {
	switch {
	case o.Count == 0:
		return
	case u.Count == 0:
		*u = o
		return
	}
	u.Count += o.Count
	if o.First.Compare(u.First) < 0 {
		u.First, u.From = o.First, o.From
	}
	if o.Last.Compare(u.Last) > 0 {
		u.Last, u.To = o.Last, o.To
	}
	if o.Due.Before(u.Due) {
		u.Due = o.Due
	}
	u.Priority = max(u.Priority, o.Priority)
}

// Task returns the event that tells of it, for the store to accept. It is never
// exhausted: only [Permanent] makes a dead letter of it.
func (u *Untold) Task() Task {
	payload, err := json.Marshal(u.Gap)
	if err != nil { // a time beyond the year 9999
		g := u.Gap
		g.From, g.To = time.Time{}, time.Time{}
		payload, _ = json.Marshal(g)
	}
	return Task{
		Event:       Event{Name: GapName, ContentType: typeJSON, Payload: payload},
		MaxAttempts: math.MaxInt32,
		Priority:    u.Priority,
	}
}

// DueAt returns when that event is due, on the store's clock: just before the first of
// those it tells of was, so that it comes before what survived them; now, if that is
// still to come.
func (u *Untold) DueAt(now time.Time) time.Time {
	if at := u.Due.Add(-1); at.Before(now) {
		return at
	}
	return now
}
