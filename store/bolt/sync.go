package bolt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// SyncLevel says when what was accepted and settled is synced to the disk: Always, an
// Interval, or Never. It is chosen with WithSync when a store is opened.
//
// At every level an event is written to the operating system before Enqueue returns.
// So the end of the process, by a panic, SIGKILL or the out-of-memory killer, costs
// nothing at any level; the levels differ in what a power cut, or a crash of the
// operating system, takes. What it takes is always the latest, never something
// from the middle: the store comes back as it was at one moment, and no level can
// make it refuse to open.
type SyncLevel int64

const (
	// Always syncs before Enqueue returns. A power cut costs nothing that was accepted
	// (P1). It is the default.
	Always SyncLevel = 0

	// Never leaves it to the store when to sync: before a checkpoint, at the end of each
	// file of the log, and at Close. A power cut costs everything since the last of
	// these, up to WithSegmentBytes of events, accepted or settled: what was accepted is
	// gone, what was delivered is delivered again.
	Never SyncLevel = -1
)

// Interval syncs once in each time of d in which something was written, for flash that is
// to live longer than the last moments are worth. A power cut costs what was accepted and
// settled in the last d, and while the sync itself takes. Zero or a negative
// duration is Always.
func Interval(d time.Duration) SyncLevel { return SyncLevel(max(d, 0)) }

// String returns "always", "every 1s" or "never".
func (l SyncLevel) String() string {
	switch {
	case l > 0:
		return "every " + time.Duration(l).String()
	case l == Never:
		return "never"
	}
	return "always"
}

// WithSync sets when the store syncs what it accepts. The default is Always; any other
// level gives up P1 for power cuts, and P3 with it, as its comment says. [outbox.Stats]
// shows the level. When the background sync of an Interval fails, the store ends
// as after every failed sync, with [outbox.ErrPoisoned], though what it had accepted
// before may not be on the disk (P10).
func WithSync(l SyncLevel) Option {
	return func(o *options) {
		if l < Never {
			l = Always
		}
		o.sync = l
	}
}

// ticks returns a channel that says when an Interval is over, nil at other levels.
func (l SyncLevel) ticks() (c <-chan time.Time, stop func()) {
	if l <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(time.Duration(l))
	return t.C, t.Stop
}

// syncInterval is what an Interval does at its end. It costs no I/O when nothing has
// happened (P6).
func (s *Store) syncInterval() error {
	if err := s.log.Sync(context.Background()); err != nil && !errors.Is(err, wal.ErrNoSpace) {
		return s.translate(err)
	}
	return nil
}

// secureLog makes the log durable up to pos beyond doubt. Whatever outlives a power cut
// and refers to a log record has to wait for it: a checkpoint, or the loss of what a
// baseline sums up. At the level Always the log is ahead of that as a rule; what it is
// not ahead of is the last sync of the run before, which may have failed (R10).
func (s *Store) secureLog(ctx context.Context, pos wal.Position) error {
	if s.log.Synced() >= pos {
		return nil
	}
	err := s.log.Sync(ctx)
	switch {
	case s.log.Synced() >= pos:
		return nil
	case err == nil, errors.Is(err, wal.ErrNoSpace):
		return fmt.Errorf("%w: log of store %s is synced up to record %d of %d: %w",
			outbox.ErrDiskFull, s.dir, s.log.Synced(), pos, wal.ErrNoSpace)
	}
	return s.translate(err)
}
