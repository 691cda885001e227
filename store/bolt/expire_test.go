package bolt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// A task whose time-to-live ends before its retry is due is dropped by the next claim
// after that, durable or not.
func TestClaim_ExpiresBeforeItsRetryIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), bolt.WithAckSync(1000*time.Hour))
		task, behind := named("a"), named("behind")
		task.Key, task.TTL, behind.Key = "k", time.Second, "k"
		create(t, s, task, behind)
		got := claim(t, s, 1)
		require.Len(t, got, 1)
		require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{
			ID: got[0].ID, Token: got[0].Token, Verdict: outbox.Retry, Delay: time.Hour, Failure: outbox.Failure{Attempt: 1, Error: "busy"},
		}}))
		require.Empty(t, claim(t, s, 1))
		time.Sleep(time.Second)
		got = claim(t, s, 1)
		require.Len(t, got, 1)
		require.Equal(t, "behind", got[0].Name)
		require.EqualValues(t, 1, stats(t, s).DroppedBy.Expired)
	})
}
