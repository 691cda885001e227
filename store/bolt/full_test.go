package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

// settleFull settles as the dispatcher does: what finds no room is tried again.
func settleFull(s *bolt.Store, outcomes ...outbox.Outcome) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := s.Settle(context.Background(), outcomes)
		if err == nil || errors.Is(err, outbox.ErrLeaseLost) {
			return nil
		}
		if !errors.Is(err, outbox.ErrDiskFull) || time.Now().After(deadline) {
			return fmt.Errorf("%w: %s", err, s.Room())
		}
	}
}

// publish makes an attempt with everything that is due: most is delivered, some is
// retried, some buried.
func publish(t *testing.T, s *bolt.Store, most int) (delivered, buried int) {
	t.Helper()
	for i := 0; i < most; {
		got := claim(t, s, 64)
		if len(got) == 0 {
			break
		}
		var outs []outbox.Outcome
		for _, task := range got {
			out := outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Done}
			switch i++; {
			case i%17 == 0:
				out.Verdict, out.Reason = outbox.Bury, "refused"
				buried++
			case i%11 == 0 && task.Attempt < 2:
				out.Verdict = outbox.Retry
				out.Failure = outbox.Failure{At: time.Now(), Attempt: task.Attempt, Error: "not now"}
			default:
				delivered++
			}
			outs = append(outs, out)
		}
		require.NoError(t, settleFull(s, outs...))
	}
	return delivered, buried
}

// acceptAgain waits until there is room.
func acceptAgain(t *testing.T, s *bolt.Store) {
	t.Helper()
	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		require.NoError(ct, s.Create(t.Context(), tasks(0, 1)), "%s", s.Room())
	}, 30*time.Second, 50*time.Millisecond)
}

// What UniqueFor leaves behind takes no room on a full disk (P9), and is kept again as soon
// as the background finds that there is some, be it a recycled segment. Time stands still
// while the test is at work, so the background looks for room only when the test sleeps.
func TestStore_FullDiskSpendsNothing(t *testing.T) {
	for name, pause := range map[string]time.Duration{"full": 0, "room again": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := fullWithUnique(t)
				time.Sleep(pause)
				synctest.Wait()
				full := stats(t, s).NoRoom != nil
				require.Equal(t, pause == 0, full)
				for _, task := range claim(t, s, 1000) {
					done(t, s, task)
				}
				require.NoError(t, s.Sync())
				until, err := s.SpentUntil("u")
				require.NoError(t, err)
				require.Equal(t, full, until == 0, "taken until %d", until)
			})
		})
	}
}

// On a full disk the quota of dead letters is kept too: dropping them is what brings room
// (P8, P9).
func TestStore_FullDiskKeepsTheDeadQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fullWithUnique(t, bolt.WithMaxDead(2, 0))
		dying := claim(t, s, 5)
		require.Len(t, dying, 5)
		bury(t, s, dying...)
		require.NoError(t, s.Sync())
		synctest.Wait()
		require.Error(t, stats(t, s).NoRoom)
		require.EqualValues(t, 2, stats(t, s).Dead)
		require.EqualValues(t, 3, stats(t, s).DroppedBy.Quota)
	})
}

// fullWithUnique returns a store that waits for room, with a task that has a Unique key.
func fullWithUnique(t *testing.T, opts ...bolt.Option) *bolt.Store {
	t.Helper()
	disk := waltest.New()
	dir := t.TempDir()
	mkdirAll(t, disk, dir)
	s := open(t, dir, append(opts, bolt.WithLogFS(disk), bolt.WithSegmentBytes(64<<10))...)
	once := tasks(0, 1)
	once[0].Unique, once[0].UniqueFor = "u", year
	create(t, s, once...)
	fillUp(t, s, disk, 0)
	return s
}

// fillUp fills the log, on a disk that has no room for another segment, with large tasks
// that are due after a delay, until the store waits for room.
func fillUp(t *testing.T, s *bolt.Store, disk *waltest.FS, delay time.Duration) {
	t.Helper()
	require.NoError(t, s.Prepare()) // the segment that may be recycled later, and the reserve
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Create {
			return &waltest.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	s.Freeze(func() { // or the background would recycle the log in time
		for err := error(nil); err == nil; {
			large := tasks(0, 1)
			large[0].Payload, large[0].Delay = make([]byte, 10_000), delay
			err = s.Create(t.Context(), large)
		}
	})
	synctest.Wait()
	require.Error(t, stats(t, s).NoRoom, s.Room())
}
