package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks.
const (
	headerID        = "Webhook-Id"        // the same for every delivery of one event
	headerTimestamp = "Webhook-Timestamp" // Unix seconds of this delivery
	headerSignature = "Webhook-Signature" // "v1," and base64, several with spaces between
)

// signingKey is the secret that sender and receiver share.
type signingKey []byte

const secretPrefix = "whsec_"

// parseSecret reads a secret as it is written down: whsec_ and base64 of 24 to 64
// bytes.
func parseSecret(s string) (signingKey, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, secretPrefix))
	if err != nil || !strings.HasPrefix(s, secretPrefix) || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("the secret must be whsec_ and base64 of 24 to 64 bytes")
	}
	return key, nil
}

// sign returns the signature of a delivery.
func (k signingKey) sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, k)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// tolerance is how far the clocks of sender and receiver may be apart.
const tolerance = 5 * time.Minute

// verify checks a delivery, for receivers. An edge device whose clock is wrong by more
// than the tolerance is refused, which is no reason to give the event up: see send.
func (k signingKey) verify(h http.Header, body []byte, now time.Time) error {
	seconds, err := strconv.ParseInt(h.Get(headerTimestamp), 10, 64)
	if err != nil {
		return errors.New("no timestamp")
	}
	at := time.Unix(seconds, 0)
	if d := now.Sub(at); d > tolerance || d < -tolerance {
		return fmt.Errorf("timestamp is %s away", d.Round(time.Second))
	}
	want := k.sign(h.Get(headerID), at, body)
	for _, one := range strings.Fields(h.Get(headerSignature)) {
		if hmac.Equal([]byte(one), []byte(want)) {
			return nil
		}
	}
	return errors.New("no signature matches")
}
