package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

// lame is a store that fails where a test wants it to.
type lame struct {
	*mem.Store
	imports func(tasks []outbox.Task) error // before an import
	deletes func(ids []outbox.ID) error     // before a deletion
}

func (l *lame) Import(ctx context.Context, tasks []outbox.Task) (int, error) {
	if l.imports != nil {
		if err := l.imports(tasks); err != nil {
			return 0, err
		}
	}
	return l.Store.Import(ctx, tasks)
}

func (l *lame) Delete(ctx context.Context, ids ...outbox.ID) (int, error) {
	if l.deletes != nil {
		if err := l.deletes(ids); err != nil {
			return 0, err
		}
	}
	return l.Store.Delete(ctx, ids...)
}

func newLame() *lame { return &lame{Store: mem.New()} }

// fill accepts events named n0, n1 and so on.
func fill(t *testing.T, s outbox.Store, n int, with ...func(*outbox.Task)) {
	t.Helper()
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = outbox.Task{Event: outbox.Event{Name: fmt.Sprint("n", i), Payload: []byte("{}")}, MaxAttempts: 1}
		for _, f := range with {
			f(&list[i])
		}
	}
	require.NoError(t, s.Create(t.Context(), list))
}

func ledger(t *testing.T, s outbox.Store) outbox.Stats {
	t.Helper()
	st, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, st.Accepted, st.Delivered+st.Pending+st.InFlight+st.Dead+st.Dropped, "P5")
	return st
}

func listed(t *testing.T, s outbox.Store) string {
	t.Helper()
	var names []string
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		names = append(names, task.Name)
	}
	return strings.Join(names, " ")
}

// Cut short at any moment, between import and deletion too, Copy goes on when it is called
// again: nothing is lost, nothing accepted twice, and the order is as it was.
func TestCopy_GoesOn(t *testing.T) {
	cut := errors.New("cut short")
	for _, deleted := range []bool{false, true} {
		from, to := newLame(), newLame()
		fill(t, from, 1000, func(task *outbox.Task) { task.Key = "k" })
		before := listed(t, from)
		var sum outbox.Copied
		calls, runs := 0, 0
		fail := func() error {
			if calls++; calls%2 == 0 { // one batch goes through
				return cut
			}
			return nil
		}
		if deleted {
			from.deletes = func([]outbox.ID) error { return fail() }
		} else {
			to.imports = func([]outbox.Task) error { return fail() }
		}
		for done := false; !done; runs++ {
			got, err := outbox.Copy(t.Context(), from, to)
			if done = err == nil; !done {
				require.ErrorIs(t, err, cut)
			}
			require.LessOrEqual(t, ledger(t, from).Pending+ledger(t, to).Pending, uint64(1000+256), "in both is one batch at most")
			sum.Known += got.Known
		}
		require.Greater(t, runs, 2)
		require.Equal(t, before, listed(t, to))
		require.Empty(t, listed(t, from))
		require.EqualValues(t, 1000, ledger(t, to).Accepted, "each once")
		require.EqualValues(t, 1000, ledger(t, from).DroppedBy.Deleted)
		require.Equal(t, deleted, sum.Known > 0)
	}
}

// A copy of a store onto itself, seen through two handles, loses nothing.
func TestCopy_SameStore(t *testing.T) {
	s := mem.New()
	fill(t, s, 5)
	_, err := outbox.Copy(t.Context(), s, s)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	_, err = outbox.Copy(t.Context(), &lame{Store: s}, &lame{Store: s})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.Equal(t, "n0 n1 n2 n3 n4", listed(t, s))
}

// What Copy cannot use, or must not use now, is refused before anything moves.
func TestCopy_Refuses(t *testing.T) {
	type plain struct{ outbox.Store }
	s, other := mem.New(), mem.New()
	fill(t, s, 3)
	_, err := outbox.Copy(t.Context(), plain{s}, other)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	_, err = outbox.Copy(t.Context(), s, plain{other})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = outbox.Copy(ctx, s, other)
	require.ErrorIs(t, err, context.Canceled)

	claimed, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Lease: time.Hour})
	require.NoError(t, err)
	_, err = outbox.Copy(t.Context(), s, other)
	require.ErrorIs(t, err, outbox.ErrInFlight)
	require.Empty(t, listed(t, other))
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: claimed.Tasks[0].ID, Token: claimed.Tasks[0].Token, Verdict: outbox.Release}}))
	require.NoError(t, other.Close())
	_, err = outbox.Copy(t.Context(), s, other)
	require.ErrorIs(t, err, outbox.ErrClosed)
	require.Equal(t, "n0 n1 n2", listed(t, s))
}

// A publisher of the source that gets in between is noticed.
func TestCopy_PublishedMeanwhile(t *testing.T) {
	from, to := newLame(), mem.New()
	fill(t, from, 3)
	from.deletes = func([]outbox.ID) error {
		_, err := from.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Lease: time.Hour})
		return err
	}
	_, err := outbox.Copy(t.Context(), from, to)
	require.ErrorIs(t, err, outbox.ErrInFlight)
	require.Equal(t, "n0", listed(t, from))
	require.Equal(t, "n0 n1 n2", listed(t, to))
}

// The source may accept: what it had when Copy began moves, in order, and a second call
// brings the rest.
func TestCopy_WhileTheSourceAccepts(t *testing.T) {
	from, to := newLame(), mem.New()
	fill(t, from, 600)
	from.deletes = func([]outbox.ID) error {
		from.deletes = nil
		fill(t, from, 1, func(task *outbox.Task) { task.Name = "late" })
		return nil
	}
	got, err := outbox.Copy(t.Context(), from, to)
	require.NoError(t, err)
	require.GreaterOrEqual(t, got.Events, uint64(600))
	_, err = outbox.Copy(t.Context(), from, to)
	require.NoError(t, err)
	require.Empty(t, listed(t, from))
	require.True(t, strings.HasSuffix(listed(t, to), "n599 late"))
}

// What the target refuses stays, with all of its key behind it (P4); the rest moves.
func TestCopy_LeavesWhatIsRefused(t *testing.T) {
	from, to := mem.New(), newLame()
	to.imports = func(tasks []outbox.Task) error {
		for _, task := range tasks {
			if task.Name == "large" {
				return outbox.ErrTooLarge
			}
		}
		return nil
	}
	one := func(s outbox.Store, name, key, unique string) {
		fill(t, s, 1, func(task *outbox.Task) { task.Name, task.Key, task.Unique = name, key, unique })
	}
	one(to, "holder", "", "u")
	one(from, "a", "k", "")
	one(from, "taken", "k", "u")
	one(from, "b", "k", "")
	one(from, "c", "other", "")
	one(from, "large", "", "")
	one(from, "d", "", "")
	got, err := outbox.Copy(t.Context(), from, to)
	require.ErrorIs(t, err, outbox.ErrDuplicate)
	require.ErrorIs(t, err, outbox.ErrTooLarge)
	require.ErrorContains(t, err, "3 events stay")
	require.Equal(t, outbox.Copied{Events: 3, Left: 3}, got)
	require.Equal(t, "taken b large", listed(t, from))
	require.ElementsMatch(t, []string{"holder", "a", "c", "d"}, strings.Fields(listed(t, to))) // made in one millisecond

	_, err = outbox.New(to).Drain(t.Context(), func(context.Context, outbox.Event) error { return nil })
	require.NoError(t, err)
	to.imports = nil
	got, err = outbox.Copy(t.Context(), from, to)
	require.NoError(t, err)
	require.Equal(t, outbox.Copied{Events: 3}, got)
	require.Equal(t, "taken b large", listed(t, to))
}

// A target that is full takes what fits, says so, and the rest later.
func TestCopy_FullTarget(t *testing.T) {
	from, to := mem.New(), newLame()
	room := 100
	to.imports = func(tasks []outbox.Task) error {
		if len(tasks) > room {
			return outbox.ErrFull
		}
		room -= len(tasks)
		return nil
	}
	fill(t, from, 300)
	_, err := outbox.Copy(t.Context(), from, to)
	require.ErrorIs(t, err, outbox.ErrFull)
	require.EqualValues(t, 100, ledger(t, to).Pending)
	require.EqualValues(t, 200, ledger(t, from).Pending)
	room = 1000
	_, err = outbox.Copy(t.Context(), from, to)
	require.NoError(t, err)
	require.EqualValues(t, 300, ledger(t, to).Accepted)
	to.imports = func([]outbox.Task) error { return outbox.ErrDiskFull }
	fill(t, from, 1)
	_, err = outbox.Copy(t.Context(), from, to)
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	require.Equal(t, "n0", listed(t, from))
}

// Gaps that wait move like any other event. What is untold the target tells, if it is asked
// to, each drop once (P5).
func TestCopy_Gaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := mem.New(), mem.New()
		expire := func(n int) {
			fill(t, from, n, func(task *outbox.Task) { task.TTL = 1 })
			time.Sleep(time.Second)
		}
		expire(2)
		got, err := from.Claim(t.Context(), outbox.ClaimRequest{Max: 1, Gaps: true})
		require.NoError(t, err)
		require.NoError(t, from.Settle(t.Context(), []outbox.Outcome{{ID: got.Tasks[0].ID, Token: got.Tasks[0].Token, Verdict: outbox.Release}}))
		expire(3)
		_, err = from.Claim(t.Context(), outbox.ClaimRequest{Match: func(string) bool { return false }})
		require.NoError(t, err, "which drops them")
		fill(t, from, 1)

		copied, err := outbox.Copy(t.Context(), from, to)
		require.NoError(t, err)
		require.EqualValues(t, 2, copied.Events)
		require.Equal(t, outbox.GapName+" n0", listed(t, to))
		copied, err = outbox.Copy(t.Context(), from, to, outbox.WithGapMarkers())
		require.NoError(t, err)
		require.EqualValues(t, 1, copied.Events)
		require.Empty(t, listed(t, from))

		var told atomic.Uint64
		_, err = outbox.New(to, outbox.WithGapMarkers()).Drain(t.Context(), func(_ context.Context, e outbox.Event) error {
			var gap outbox.Gap
			if e.Name == outbox.GapName {
				require.NoError(t, e.Decode(&gap))
				told.Add(gap.Count)
			}
			return nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 5, told.Load())
	})
}
