package outbox

import "time"

// GapName is the name of the event that tells the receiver of a gap. Names that begin
// with "goutbox." are the outbox's own: Enqueue refuses them.
const GapName = ownNames + "gap"

const ownNames = "goutbox."

// Gap is the payload, as JSON, of an event named [GapName]: events that were accepted
// and will not come, because a policy has dropped them.
type Gap struct {
	Reason Reason    `json:"reason"` // [ReasonQuota] or [ReasonExpired]
	Count  uint64    `json:"count"`  // how many
	First  ID        `json:"first"`  // the lowest ID of them
	Last   ID        `json:"last"`   // the highest; events in between may have been delivered
	From   time.Time `json:"from"`   // when the first of them was accepted, by the wall clock
	To     time.Time `json:"to"`     // when the last was
}
