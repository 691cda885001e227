package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// post returns a publisher that sends each event with an HTTP POST. The endpoint may
// see an event twice, under the same Idempotency-Key, and should then do nothing.
func post(url string) outbox.Publisher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16 // one for each publisher at work, or most of them connect anew each time
	client := &http.Client{
		Transport: transport,
		// Following a redirect, net/http turns most POSTs into GETs without a body.
		// That would look like a delivery.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, e outbox.Event) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(e.Payload))
		if err != nil {
			return outbox.Unavailable(err) // the URL is wrong, not the event
		}
		req.Header.Set("Content-Type", e.ContentType)
		req.Header.Set("Idempotency-Key", e.ID.String())
		req.Header.Set("Event-Name", e.Name)
		resp, err := client.Do(req)
		if err != nil {
			// No answer. The outbox knows refused connections, timeouts and the like
			// by itself; this adds the rest, such as a certificate that has expired.
			return outbox.Unavailable(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // all of it, so that the connection can be used again
		return verdict(resp, body)
	}
}

// verdict says what an answer means for the event. The rule: an event ends as a dead
// letter only for what it is itself. An endpoint that is overloaded, in repair, or
// that we may not enter, says nothing about it.
func verdict(resp *http.Response, body []byte) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err := fmt.Errorf("%s answered %s%s", resp.Request.URL.Host, resp.Status, excerpt(body))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return outbox.Permanent(err) // it will never be taken: a dead letter now
	case http.StatusTooManyRequests:
		return outbox.RetryAfter(err, retryAfter(resp.Header))
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout,
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusProxyAuthRequired:
		return outbox.Unavailable(err)
	}
	if resp.StatusCode/100 == 3 {
		return outbox.Unavailable(fmt.Errorf("%w; it has moved to %q", err, resp.Header.Get("Location")))
	}
	return err // spends an attempt, and is tried again later
}

// retryAfter reads how long the endpoint wants to be left alone; 0 if it does not
// say. A date is held against the endpoint's clock: that of a device may be wrong.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return until.Sub(now)
}

// excerpt is the beginning of an answer's text, for the event's history.
func excerpt(body []byte) string {
	text := strings.Join(strings.Fields(string(body[:min(len(body), 200)])), " ")
	if text == "" {
		return ""
	}
	return ": " + strings.ToValidUTF8(text, "")
}
