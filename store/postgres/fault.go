package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// state returns the SQLSTATE that an error carries, whichever driver it comes from, or "".
func state(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// conflict reports whether a transaction failed because of another one, and may be
// tried again: a serialization failure, a deadlock, two heads of one key, of which the
// index has refused one, or one ID that two have given: then the other one is there to be seen.
func conflict(err error) bool {
	switch state(err) {
	case "40001", "40P01":
		return true
	case "23505":
		return strings.Contains(err.Error(), "_ix_heads") || strings.Contains(err.Error(), "_tasks_pkey")
	}
	return false
}

// broken reports whether an error says something of the connection or the server and
// nothing of what was asked for.
func broken(err error) bool {
	switch code := state(err); {
	case strings.HasPrefix(code, "08"):
		return true
	case code == "57P01", code == "57P02", code == "57P03", code == "57P05", code == "25P03", code == "53300":
		return true // shut down, crashed, starting up, session ended as idle, too many connections
	case code != "":
		return false
	}
	var of net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.As(err, &of) || strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "failed to connect")
}

// translate gives an error of the database the name that callers branch on.
func translate(what string, err error) error {
	kind := error(nil)
	switch state(err) {
	case "23505":
		kind = outbox.ErrDuplicate
	case "53100":
		kind = outbox.ErrDiskFull
	case "54000":
		kind = outbox.ErrTooLarge
	}
	if kind != nil {
		return fmt.Errorf("postgres: %s: %w: %w", what, kind, err)
	}
	return fmt.Errorf("postgres: %s: %w", what, err)
}

// Tries of one call, and the pauses between them: about two seconds for a server that
// restarts, as long as the caller has patience.
const (
	maxTries  = 12
	firstWait = 5 * time.Millisecond
	longWait  = 400 * time.Millisecond
)

// pause waits before the next try; it reports false if the caller has no time for that.
func pause(ctx context.Context, tried int) bool {
	d := min(firstWait<<min(tried, 10), longWait)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
