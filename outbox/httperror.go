package outbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a Retry-After header is taken for: no destination may put
// an event off for longer by itself, and a clock that lies (P12) no further than this.
const maxRetryAfter = 24 * time.Hour

// HTTPError makes of an HTTP answer what a [Publisher] returns:
//
//	defer resp.Body.Close()
//	return outbox.HTTPError(resp.StatusCode, resp.Header)
//
// It is nil for 2xx. Else:
//
//	502, 503, 504; 521 to 524 of proxies; 408    Unavailable: nothing spent
//	400, 410, 413, 414, 415, 422, 431, 451       Permanent: it is the event's fault
//	all others, 401, 403, 404, 429, 500 among    refused: an attempt spent
//	them
//
// What can be mended at the destination (a password, an address, a route that is not
// there yet) is refused, not permanent, so that the event lives for some attempts more.
//
// Retry-After, in seconds or as a date, is obeyed up to a day: by the next attempt of a
// refused event, and for an Unavailable one by the next probe, up to an hour there. A
// date is measured by the Date of the same answer, if it has one: our own clock may lie.
//
// The header may be nil. The body of the answer is not in the error; wrap it with more,
// the marks shine through:
//
//	return fmt.Errorf("post %s: %w", e.ID, outbox.HTTPError(resp.StatusCode, resp.Header))
//
// but not around nil. The parameter is a map, as net/http.Header is one, so that who
// does not use that package does not link it.
func HTTPError(status int, header map[string][]string) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("HTTP status %d", status)
	switch status {
	case 408, 502, 503, 504, 521, 522, 523, 524:
		return Unavailable(RetryAfter(err, retryAfter(header, time.Now())))
	case 400, 410, 413, 414, 415, 422, 431, 451:
		return Permanent(err)
	}
	return RetryAfter(err, retryAfter(header, time.Now()))
}

// retryAfter reads the header of that name; 0 = not there, not understood, or past.
func retryAfter(header map[string][]string, now time.Time) time.Duration {
	value := headerValue(header, "Retry-After")
	if strings.Trim(value, "0123456789") == "" && value != "" {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil { // out of range
			return maxRetryAfter
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, ok := httpDate(value)
	if !ok {
		return 0
	}
	if sent, ok := httpDate(headerValue(header, "Date")); ok {
		now = sent
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// httpDate reads a date in the three forms that HTTP knows.
func httpDate(value string) (time.Time, bool) {
	for _, layout := range [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if at, err := time.Parse(layout, value); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// headerValue returns the first value of a header, whatever the case of its name.
func headerValue(header map[string][]string, name string) string {
	values, ok := header[name]
	if !ok {
		for other, v := range header {
			if strings.EqualFold(other, name) {
				values = v
				break
			}
		}
	}
	if len(values) == 0 {
		return ""
	}
	return strings.TrimSpace(values[0])
}
