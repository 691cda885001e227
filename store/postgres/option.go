package postgres

import (
	"context"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Option changes how a store works. Zero and negative values mean the default.
type Option func(*options)

type options struct {
	retryInterval time.Duration
	lease         time.Duration
	skipMigration bool
	schema, table string
	listener      Listener
	quota         int64
	deadQuota     int64
	overflow      Overflow
}

const (
	defaultRetryInterval = 500 * time.Millisecond
	minRetryInterval     = time.Millisecond
)

// WithRetryInterval sets how often the store looks for events that others have made
// claimable: other instances, transactions of the application, leases that have ended.
// The default is 500 ms. Each look comes up to a quarter earlier or later, so that instances
// do not look in step. A store looks only while an outbox is started.
func WithRetryInterval(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.retryInterval = max(d, minRetryInterval)
		}
	}
}

// WithSkipMigration leaves the schema alone: for programs whose own tool applies
// [MigrationsFS]. [New] still checks that the schema is there, and returns
// [outbox.ErrVersion] if it is not the one that this package knows.
func WithSkipMigration() Option { return func(o *options) { o.skipMigration = true } }

// WithSchema puts the tables into a schema, which must exist; the default is the first of
// the connection's search_path. At most 40 letters, digits, _ and $.
func WithSchema(name string) Option { return func(o *options) { o.schema = name } }

// WithTable sets what the names of all tables begin with; the default is "goutbox". So
// several stores can live in one schema. At most 40 letters, digits, _ and $.
func WithTable(name string) Option { return func(o *options) { o.table = name } }

// WithLease bounds how long a claim may last, whatever the outbox asks for (see
// [outbox.ClaimRequest.Lease]). The events that an instance had in flight when it was killed are
// claimed again by others after that time at the latest. It must be longer than a
// publisher may take, or events are published twice; the default is [outbox.MaxLease],
// which leaves the choice to the outbox: about its publish timeout.
func WithLease(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.lease = min(d, outbox.MaxLease)
		}
	}
}

// Overflow says what becomes of a new event for which a quota has no room.
type Overflow uint8

const (
	// Reject refuses it with [outbox.ErrFull].
	Reject Overflow = iota
	// Block has Create wait until there is room, or until its context ends: then the
	// error is ErrFull and that of the context. It looks again after each retry interval.
	Block
	// DropOldest drops the oldest events that wait, whatever their priority, never those in
	// flight, no gap, and no more than there must go. When all that is left is in flight, it is Reject.
	DropOldest
)

// WithMaxTasks bounds how many events may wait or be in flight, in all instances together;
// without it there is no bound. Accepting is then done one transaction at a time, since
// each must know of all others. See [WithTx] for events in a transaction of the
// application.
func WithMaxTasks(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.quota = int64(n)
		}
	}
}

// WithMaxDead bounds how many dead letters are kept. When a new one exceeds that, the oldest
// by ID are dropped and counted as DroppedBy.Quota.
func WithMaxDead(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.deadQuota = int64(n)
		}
	}
}

// WithOverflow sets what becomes of an event for which [WithMaxTasks] leaves no room; the
// default is [Reject].
func WithOverflow(policy Overflow) Option {
	return func(o *options) {
		if policy <= DropOldest {
			o.overflow = policy
		}
	}
}

// Listener hears notifications of PostgreSQL. database/sql has no way to do so, so the
// program writes one with its driver: some ten lines, see the README.
type Listener interface {
	// Listen executes LISTEN for the channel on a connection of its own, and calls
	// heard after each notification, and after each reconnect. It returns when ctx ends.
	Listen(ctx context.Context, channel string, heard func()) error
}

// WithListener has events of other instances found at once and not after the retry
// interval: every Create sends a notification, and l hears those of others. It is off by
// default: NOTIFY takes a lock of the whole database at commit, so that
// transactions that notify commit one after the other, and a proxy that
// pools transactions can not pass it on. Polling goes on beside it.
func WithListener(l Listener) Option { return func(o *options) { o.listener = l } }
