package bolt

import (
	"log/slog"
	"os"
	"time"

	"github.com/goutbox/goutbox/wal"
)

// Option sets one property of a store that is opened. A zero value, or one that makes
// no sense, falls back to the default.
type Option func(*options)

type options struct {
	logger       *slog.Logger
	ackSync      time.Duration
	sync         SyncLevel
	segmentBytes int64
	maxDatabase  int64 // 0 = no bound
	reserveBytes int64 // behind the database's high-water mark, at least
	softEntries  int
	hardEntries  int
	maxQueues    int
	quota        amount // of what waits; zeros are no limit
	deadQuota    amount
	overflow     Overflow

	// For tests: where time and files come from. The zero values are the machine's own.
	wallClock func() time.Time
	openFile  func(name string, flag int, perm os.FileMode) (*os.File, error) // of the database
	logFS     wal.FS
	stage     func(string) error // called by Salvage between its steps

	guard int // most pages that Open looks at before bbolt does

	compactPause time.Duration
	compactFloor int64
	compactStep  func(name string) // called between the steps of a compaction
	closedOnly   bool              // compact as on windows
}

// Defaults of the options, and bounds that are not options. The overlay's bounds
// keep its memory within some 20 MiB (P7): a checkpoint is due at the soft bound,
// accepting waits for it at twice that. What a checkpoint and the log need meanwhile
// comes on top: a busy store has 30 to 50 MiB of live heap. Bounds twice as large
// accept 2 % more a second and need 90.
const (
	defaultAckSync      = 50 * time.Millisecond
	defaultSegmentBytes = 4 << 20
	softEntries         = 16 << 10
	softBytes           = 8 << 20
	chunkEntries        = 8 << 10 // most tasks of one checkpoint transaction
	chunkBytes          = 4 << 20 // most of their bytes
	queueAhead          = 8192    // tasks read ahead of claims in all queues together
	refillEntries       = 512     // most tasks a claim reads from the database at once
	refillBytes         = 1 << 20
	laneBytes           = 4 << 20     // and at once of the keys whose heads it looks up
	heldSegments        = 3           // as many segments with records make a checkpoint due
	keptSpares          = 3           // one more than the log wants ready: see lighten
	idleCheckpoint      = time.Minute // without a new record makes one due
	lockWait            = 500 * time.Millisecond
	roomWait            = time.Second // most that accepting waits for a checkpoint that cannot begin
	fullPause           = time.Second // between looks whether a full disk has room again
)

func buildOptions(opts []Option) options {
	o := options{
		logger:       slog.Default(),
		ackSync:      defaultAckSync,
		segmentBytes: defaultSegmentBytes,
		softEntries:  softEntries,
		hardEntries:  2 * softEntries,
		maxQueues:    maxQueues,
		wallClock:    time.Now,
		guard:        guardPages,
		openFile:     os.OpenFile,
		maxDatabase:  defaultMaxDatabase,
		compactPause: compactPause,
		compactFloor: compactFloor,
		closedOnly:   !compactsLive,
	}
	for _, opt := range opts {
		opt(&o)
	}
	o.reserveBytes = min(max(o.segmentBytes/4, 256<<10), 1<<20)
	return o
}

// WithAckSync sets how long the outcome of a delivery may stay unsynced: after a
// power cut the deliveries of that time are made once more (P3). The default is
// 50 milliseconds. A longer time costs the disk fewer writes when little is
// accepted; with much accepted it makes no difference, since every accepted event
// syncs the outcomes before it.
func WithAckSync(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.ackSync = d
		}
	}
}

// WithSegmentBytes sets the size of a file of the log, 4 MiB by default and 64
// KiB at least. A fresh store takes three of them on disk, a busy one six. The
// database keeps a reserve in proportion, a quarter of this but 256 KiB at least and
// 1 MiB at most, so that a full disk drains; a fresh one takes twice that. Together
// that is less than 16 MiB for a fresh store, and less than 1 MiB with segments of
// 64 KiB.
func WithSegmentBytes(n int64) Option {
	return func(o *options) {
		if n > 0 {
			o.segmentBytes = n
		}
	}
}

// WithLogger sets where the store reports what it found and mended when it was
// opened, what quotas have dropped, that the disk is full or has room again, that the
// database has become smaller, and why the store failed. Some lines are written with
// the store's lock held: the handler must not call the store. The default is
// slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.logger = l
		}
	}
}
