package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
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
