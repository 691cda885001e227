// Package peer holds the contenders that are not of this module, each in one file.
// All of them sync what they acknowledge; each About says with which settings.
//
// The program has them with the build tag peers alone: they are many times its size.
package peer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// All are the peers.
var All = []subject.Subject{Goqite, Backlite, River, RiverPostgres, NATS, Dque, Bbolt, Badger, TidwallWAL, RaftWAL}

// version is that of a module in this program, with a space before it.
func version(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return " " + m.Version
			}
		}
	}
	return ""
}

// slow is the backlog that is asked of peers that deliver some thousands a second.
const slow = 5_000

// untilEmpty is Drain for queues that have Consume alone.
func untilEmpty(ctx context.Context, q subject.Queue, publish func([]byte)) error {
	return until(ctx, q, publish, func(ctx context.Context) (bool, error) {
		counts, err := q.Counts(ctx)
		return counts.Waiting == 0, err
	})
}

// until is Consume that ends when all is done, which is looked at every other millisecond.
func until(ctx context.Context, q subject.Queue, publish func([]byte), done func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- q.Consume(ctx, publish) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return errors.Join(fmt.Errorf("consume has ended early"), err)
		case <-tick.C:
		}
		over, err := done(ctx)
		if err != nil || over {
			cancel()
			return errors.Join(err, <-ended)
		}
	}
}
