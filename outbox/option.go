package outbox

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// Option changes how an [Outbox] works. A value that is zero or negative falls
// back to the default.
type Option func(*config)

// config is what the options of New set.
type config struct {
	loopInterval   time.Duration
	publishTimeout time.Duration
	concurrency    int
	maxPayload     int
	backoff        Backoff
	log            *slog.Logger
	defaults       []EventOption
	newest         bool
	ramp           ramp
	limiter        Limiter
	observers      []*observer
	maxAge         time.Duration
	batchEvents    int
	batchBytes     int
	linger         time.Duration
	gaps           bool
	headers        func(ctx context.Context) map[string]string
}

// Defaults of the options.
const (
	defaultLoopInterval   = time.Minute
	defaultPublishTimeout = 30 * time.Second
	defaultConcurrency    = 16
	defaultMaxPayload     = 16 << 20
	defaultMaxAttempts    = 3
	defaultBatchEvents    = 100
	defaultBatchBytes     = 1 << 20
	maxLinger             = time.Hour
	maxBatchEvents        = 10_000
	maxConcurrency        = 1 << 16
	defaultBackoffBase    = time.Second
	defaultBackoffMax     = 5 * time.Minute
)

// configure applies the options and fills in what they leave open.
func configure(opts []Option) config {
	c := config{}.with(opts)
	for _, w := range c.observers {
		w.log = c.log
	}
	return c
}

// with returns c with more options, and what they leave open filled in.
func (c config) with(opts []Option) config {
	c.defaults, c.observers = slices.Clip(c.defaults), slices.Clip(c.observers)
	for _, set := range opts {
		if set != nil {
			set(&c)
		}
	}
	c.loopInterval = positive(c.loopInterval, defaultLoopInterval)
	c.publishTimeout = positive(c.publishTimeout, defaultPublishTimeout)
	c.concurrency = min(positive(c.concurrency, defaultConcurrency), maxConcurrency)
	c.maxPayload = positive(c.maxPayload, defaultMaxPayload)
	c.ramp = c.ramp.withDefaults()
	c.batchEvents = min(positive(c.batchEvents, defaultBatchEvents), maxBatchEvents)
	c.batchBytes = positive(c.batchBytes, defaultBatchBytes)
	c.linger = min(max(c.linger, 0), maxLinger)
	if c.backoff == nil {
		c.backoff = defaultBackoff
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	return c
}

// positive returns v, or the default if v is zero or negative.
func positive[T ~int | ~int64](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// WithLoopInterval says how often Start looks for work unasked; 1 minute by
// default. It is a safety net: what this outbox accepts, what a [Notifier] reports
// and what becomes due is found at once, whatever the interval is. Set it lower
// for a store that others write to and that cannot notify.
func WithLoopInterval(d time.Duration) Option {
	return func(c *config) { c.loopInterval = d }
}

// WithConcurrency says how many publishers each Start, StartBatch or Drain runs at
// a time; 16 by default. Set it to 1 for a destination that takes one call at a
// time, and higher for one that answers slowly; 65,536 is the most.
func WithConcurrency(n int) Option {
	return func(c *config) { c.concurrency = n }
}

// NewestFirst publishes what became due last before what has waited longer, within each
// class of [Priority]: for those who want fresh data after a long outage, and the old as
// there is time. Events with a Key keep their order among each other (P4). Without an
// outage or a backlog it makes little difference.
func NewestFirst() Option {
	return func(c *config) { c.newest = true }
}

// WithBackoff says how long a refused event waits before the next attempt;
// [ExponentialBackoff] from 1 second to 5 minutes by default.
func WithBackoff(b Backoff) Option {
	return func(c *config) { c.backoff = b }
}

// WithPublishTimeout says how long one attempt may take; 30 seconds by default.
// The context that a publisher gets ends then. Set it to a little more than the
// slowest answer you would still wait for: in an outage that drops packets, this
// is how long each probe takes.
func WithPublishTimeout(d time.Duration) Option {
	return func(c *config) { c.publishTimeout = d }
}

// WithMaxPayload says how many bytes an encoded payload may have; 16 MiB by
// default. Larger ones are refused with [ErrTooLarge]. A store may have a lower
// limit of its own.
func WithMaxPayload(bytes int) Option {
	return func(c *config) { c.maxPayload = bytes }
}

// WithLogger says where the outbox reports what it does beside what it returns;
// [slog.Default] by default. An attempt is reported at level Debug, a publisher
// that panics or hangs and the beginning of an outage at Warn, its end at Info, a
// dead letter at Error, and so is an event that has used its attempts up and blocks its
// key ([BlockKey]), the first time. Payloads and headers are never logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

// WithDefaults gives options to every event. Those of the event itself are
// applied after them.
func WithDefaults(opts ...EventOption) Option {
	return func(c *config) { c.defaults = append(c.defaults, opts...) }
}

// WithGapMarkers has the receiver told of events that were accepted and will not come,
// because a quota of the store has dropped them or their time-to-live has run out. Then
// the publisher gets, beside the events of the application, one named [GapName] for each
// of these reasons, with a [Gap] as its payload:
//
//	if e.Name == outbox.GapName {
//		var gap outbox.Gap
//		err := e.Decode(&gap)
//
// It comes before the events that survived, as far as these wait for the same class, and
// is an event like any other: counted, published at least once under an ID of its own,
// retried. It has no key, so no key waits for it. Only [Permanent] makes a dead letter
// of it, never the number of attempts.
//
// Without this option nothing is told, and nothing forgotten: the store goes on adding
// up, and the first gap after the option was given tells of all that was dropped since
// the store was made, or since the last one. A publisher that merely ignores gaps returns
// nil for them. With a [Mux], a pattern has to match GapName; until one does, nothing is
// told.
func WithGapMarkers() Option {
	return func(c *config) { c.gaps = true }
}
