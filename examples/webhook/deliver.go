package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// sender is the destination as the outbox sees it.
type sender struct {
	url string
	key signingKey
}

// send publishes one event. It is called again with the same event until it returns
// nil, and each time the webhook has the same ID.
//
// What the answer means is outbox.HTTPError's to say: 429 puts the event off for as
// long as Retry-After says; 502, 503 and 504 are an outage, which costs no attempt;
// what the receiver can never take is a dead letter at once; the rest is tried again.
func (s *sender) send(ctx context.Context, e outbox.Event) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(e.Payload))
	if err != nil {
		return outbox.Permanent(err)
	}
	now := time.Now()
	req.Header.Set("Content-Type", e.ContentType)
	req.Header.Set("Webhook-Type", e.Name)
	req.Header.Set(headerID, e.ID.String())
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(headerSignature, s.key.sign(e.ID.String(), now, e.Payload))

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // not reached: the outbox sees that by itself
	}
	defer resp.Body.Close()
	why, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the history of the event
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if err := outbox.HTTPError(resp.StatusCode, resp.Header); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(why))
	}
	return nil
}
