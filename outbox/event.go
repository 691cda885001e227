package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// ID names an event for ever. A store hands IDs out in rising order, also across
// restarts and clock jumps (P4), and every delivery of an event carries the same
// one, so that consumers can deduplicate on it (P2).
type ID = ulid.ULID

// Event is what happened: what the application hands over and what a [Publisher]
// receives.
type Event struct {
	ID          ID                // assigned by the store, only ever increasing; consumers deduplicate on it
	Name        string            // "order.created"; 1 to [MaxNameBytes] bytes
	Key         string            // ordering key; "" = no order
	Headers     map[string]string // carried verbatim
	ContentType string            // "application/json" unless Payload was given as []byte
	Payload     []byte            // encoded once, when accepted
	CreatedAt   time.Time         // wall clock when accepted
	Attempt     int               // 1 on the first delivery
}

// Decode reads the payload into v: a *[]byte gets a copy of the bytes, anything
// else is read as JSON, whatever the content type says.
func (e Event) Decode(v any) error {
	if raw, ok := v.(*[]byte); ok {
		*raw = append([]byte(nil), e.Payload...)
		return nil
	}
	if err := json.Unmarshal(e.Payload, v); err != nil {
		return fmt.Errorf("outbox: decode payload of %q: %w", e.Name, err)
	}
	return nil
}
