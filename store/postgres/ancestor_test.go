package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// The mistakes of the library's ancestor, whose second store was one in PostgreSQL.

const (
	aWhile = time.Minute      // a lease that does not end during a test
	soon   = 10 * time.Second // for what must happen some time
	tick   = 2 * time.Millisecond
)

func each(t *testing.T, f func(t *testing.T, driver string)) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) { f(t, driver) })
	}
}

func claim(t testing.TB, s outbox.Store, most int, lease time.Duration) []outbox.Task {
	t.Helper()
	got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: most, Lease: lease})
	require.NoError(t, err)
	return got.Tasks
}

func settle(t testing.TB, s outbox.Store, v outbox.Verdict, tasks ...outbox.Task) error {
	t.Helper()
	var all []outbox.Outcome
	for _, one := range tasks {
		o := outbox.Outcome{ID: one.ID, Token: one.Token, Verdict: v}
		if v == outbox.Bury || v == outbox.Retry {
			o.Reason, o.Failure = outbox.ReasonPermanent, outbox.Failure{At: time.Now(), Attempt: one.Attempt, Error: "no"}
		}
		all = append(all, o)
	}
	return s.Settle(t.Context(), all)
}

// Its key was the event's name, so of two pending events of one name one was lost.
func TestAncestor_TwoEventsOfOneName(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, _, _ := newStore(t, driver)
		ob := outbox.New(s)
		for n := range 2 {
			_, err := ob.Enqueue(t.Context(), "order.created", n)
			require.NoError(t, err)
		}
		var mu sync.Mutex
		var got []string
		_, err := ob.Drain(t.Context(), func(_ context.Context, e outbox.Event) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Name+string(e.Payload))
			return nil
		})
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"order.created0", "order.created1"}, got)
	})
}

// A crash left rows in processing for ever.
func TestAncestor_CrashedInstance(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver, postgres.WithLease(50*time.Millisecond))
		crashed := open(t, db, table, postgres.WithLease(50*time.Millisecond)) // and never closed
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a", key("k")), event("b", key("k")), event("c")}))
		held := claim(t, crashed, 10, aWhile)
		require.Len(t, held, 2)
		require.Empty(t, claim(t, s, 10, aWhile))
		var back []outbox.Task
		require.Eventually(t, func() bool {
			back = append(back, claim(t, s, 10, aWhile)...)
			return len(back) == 2
		}, soon, tick)
		for _, one := range back {
			require.Zero(t, one.Attempts, "a crash is no refusal")
		}
		require.ErrorIs(t, settle(t, crashed, outbox.Done, held...), outbox.ErrLeaseLost)
		require.NoError(t, settle(t, s, outbox.Done, back...))
	})
}

// Claiming opened rows again that were finished: here an instance that lost its lease can
// not, and a claim touches nothing that is delivered or dead.
func TestAncestor_FinishedStaysFinished(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		late := open(t, db, table, postgres.WithLease(time.Millisecond))
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("delivered"), event("dead"), event("retried")}))
		old := claim(t, late, 10, aWhile)
		require.Len(t, old, 3)
		var got []outbox.Task
		require.Eventually(t, func() bool {
			got = append(got, claim(t, s, 10, aWhile)...)
			return len(got) == 3
		}, soon, tick)
		require.NoError(t, settle(t, s, outbox.Done, got[0]))
		require.NoError(t, settle(t, s, outbox.Bury, got[1]))
		before, err := s.Stats(t.Context())
		require.NoError(t, err)
		for _, v := range []outbox.Verdict{outbox.Done, outbox.Retry, outbox.Release, outbox.Bury} {
			require.ErrorIs(t, settle(t, late, v, old...), outbox.ErrLeaseLost)
		}
		require.NoError(t, late.Close(), "it holds nothing any more")
		require.Empty(t, claim(t, s, 10, aWhile))
		after, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.NoError(t, settle(t, s, outbox.Done, got[2]))
	})
}

// The payload was a struct on the first try, a map on the retry.
func TestAncestor_PayloadTypeOnRetry(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, _, _ := newStore(t, driver)
		ob := outbox.New(s, outbox.WithBackoff(func(int) time.Duration { return 0 }))
		type order struct {
			Number int
			Of     []byte
		}
		var mu sync.Mutex
		var types []string
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := outbox.Untyped(func(_ context.Context, _ string, payload any) error {
			mu.Lock()
			defer mu.Unlock()
			types = append(types, fmt.Sprintf("%T %v", payload, payload))
			if len(types) < 3 {
				return errors.New("refused")
			}
			stop()
			return nil
		})
		require.NoError(t, ob.Do(ctx, "order.created", order{7, []byte("x")}, p))
		require.NoError(t, ob.Start(ctx, p))
		require.Len(t, types, 3)
		require.Equal(t, types[0], types[1])
		require.Equal(t, types[0], types[2])
	})
}
