package bolt_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// doomed makes n tasks of as many names as given that a claim ends instead of delivering
// them: they have expired, each with a key of its own, or their one key is parked.
func doomed(t testing.TB, s *bolt.Store, how string, n, names int) {
	t.Helper()
	ctx := context.Background()
	if how == "parked" {
		require.NoError(t, s.Create(ctx, []outbox.Task{parking("first", "k")}))
		c, err := s.Claim(ctx, outbox.ClaimRequest{Max: 1, Lease: time.Minute})
		require.NoError(t, err)
		require.NoError(t, s.Settle(ctx, []outbox.Outcome{{ID: c.Tasks[0].ID, Token: c.Tasks[0].Token, Verdict: outbox.Bury}}))
	}
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = keyed(fmt.Sprintf("n%d", i%names), "k")
		if how == "expired" {
			list[i].Key, list[i].TTL = fmt.Sprintf("k%d", i), 1
		}
	}
	require.NoError(t, s.Create(ctx, list))
}

// A claim looks at the queues again that have changed, not at all of them, when it comes
// upon a head that has expired or whose key is parked, and finds the one that is behind.
func TestClaim_EndsLookAtWhatChanged(t *testing.T) {
	const n, names = 400, 100
	for _, how := range []string{"expired", "parked"} {
		for _, match := range []func(string) bool{nil, func(name string) bool { return strings.HasPrefix(name, "n") }} {
			t.Run(fmt.Sprintf("%s, match %v", how, match != nil), func(t *testing.T) {
				s := open(t, t.TempDir(), bolt.WithMaxQueues(names/2)) // the other half shares a queue
				doomed(t, s, how, n, names)
				create(t, s, named("nlast"))
				before := s.Looks()
				c, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 2, Lease: time.Minute, Match: match})
				require.NoError(t, err)
				require.Len(t, c.Tasks, 1)
				require.Equal(t, "nlast", c.Tasks[0].Name)
				require.Less(t, s.Looks()-before, 2*n+4*names)
				st := stats(t, s)
				if how == "parked" {
					st.Dead-- // the one that parks
				}
				require.EqualValues(t, n, st.Dropped+st.Dead)
			})
		}
	}
}

// counted is a context that ends when it was asked so many times.
type counted struct {
	context.Context
	left int
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A claim that ends many does it in portions, and its context ends it between them.
func TestClaim_EndsInPortions(t *testing.T) {
	s := open(t, t.TempDir())
	doomed(t, s, "expired", 1000, 10)
	_, err := s.Claim(&counted{t.Context(), 2}, outbox.ClaimRequest{Max: 1, Lease: time.Minute})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 2*256, stats(t, s).Dropped)
	require.Empty(t, claim(t, s, 1))
	require.EqualValues(t, 1000, stats(t, s).Dropped)
}

// BenchmarkClaim_Ends is a claim that comes upon 8,000 heads of keys which have expired, or
// whose key is parked, in 4,000 queues.
func BenchmarkClaim_Ends(b *testing.B) {
	for _, how := range []string{"expired", "parked"} {
		b.Run(how, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s, err := bolt.Open(b.TempDir(), quiet)
				require.NoError(b, err)
				doomed(b, s, how, 8000, 4000)
				b.StartTimer()
				_, err = s.Claim(b.Context(), outbox.ClaimRequest{Max: 1, Lease: time.Minute})
				require.NoError(b, err)
				b.StopTimer()
				require.NoError(b, s.Close())
				b.StartTimer()
			}
		})
	}
}
