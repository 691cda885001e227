package outbox

import (
	"encoding/json"
	"fmt"
)

// Content types that the outbox sets by itself.
const (
	typeJSON  = "application/json"
	typeBytes = "application/octet-stream"
)

// encode turns what the application hands over into bytes, once: every attempt
// publishes the same ones.
//
// A []byte is taken as it is, json.RawMessage too once it is found valid.
// Everything else goes through encoding/json, also what implements
// encoding.BinaryMarshaler: a struct that embeds a time.Time has its MarshalBinary
// without anybody having asked for it, and would be stored as a bare timestamp.
// A nil payload is the JSON value null.
func encode(payload any) (data []byte, contentType string, err error) {
	switch p := payload.(type) {
	case []byte:
		return p, typeBytes, nil
	case json.RawMessage:
		if p != nil && !json.Valid(p) { // encoding/json takes a nil one for null
			return nil, "", fmt.Errorf("%w: payload: json.RawMessage of %d bytes is not JSON", ErrInvalid, len(p))
		}
		if p != nil {
			return p, typeJSON, nil
		}
	}
	// The application's own MarshalJSON runs in here.
	defer func() {
		if v := recover(); v != nil {
			data, contentType, err = nil, "", fmt.Errorf("%w: payload: encoding %T panicked: %v", ErrInvalid, payload, v)
		}
	}()
	data, err = json.Marshal(payload)
	if err != nil {
		return nil, "", fmt.Errorf("%w: payload: %w", ErrInvalid, err)
	}
	return data, typeJSON, nil
}
