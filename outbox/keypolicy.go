package outbox

// KeyPolicy says what becomes of the events behind one that fails, of those with the
// same Key. While it is merely retried they wait, whatever the policy; the policies
// differ in what happens when its attempts are used up, or the publisher has said
// [Permanent]. Other keys never wait. The numbers are stored; do not change them.
type KeyPolicy uint8

const (
	// BlockKey keeps the order whatever it costs: when its attempts are used up, the
	// event is tried further, with the longest pause of its backoff at last, and those
	// behind it wait until it is delivered or deleted. Only Permanent makes it a dead
	// letter; then the key goes on. The default.
	BlockKey KeyPolicy = iota
	// ParkKey makes the event a dead letter, and the key goes on without it.
	ParkKey
	// ParkWholeKey makes the event a dead letter, and all of its key after it, those
	// accepted later too, as their turn comes ([ReasonKeyParked]), until the first one
	// is requeued or deleted. Requeue all of them, and they go in their order.
	ParkWholeKey
)

// String returns the word used in logs and listings.
func (p KeyPolicy) String() string {
	switch p {
	case BlockKey:
		return "block"
	case ParkKey:
		return "park"
	case ParkWholeKey:
		return "park whole key"
	}
	return "unknown"
}

// ParksKey reports whether the task is a dead letter that parks its Key: one that has
// [ParkWholeKey] and has died by itself, not because its key was parked already. Such a
// key is parked for all tasks with a higher ID, whatever their own policy.
func (t *Task) ParksKey() bool {
	return t.State == Dead && t.KeyPolicy == ParkWholeKey && t.Key != "" && t.Reason != ReasonKeyParked && t.Reason != ReasonDamaged
}

// valid returns p, or BlockKey if there is no such policy.
func (p KeyPolicy) valid() KeyPolicy {
	if p > ParkWholeKey {
		return BlockKey
	}
	return p
}
