package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// kill makes everything that waits a dead letter; the error's text has the name in it.
func (f *fixture) kill() {
	f.t.Helper()
	_, err := f.Drain(context.Background(), func(_ context.Context, e outbox.Event) error {
		return outbox.Permanent(fmt.Errorf("cannot take %s", e.Name))
	})
	require.NoError(f.t, err)
}

func dead(f outbox.Filter) outbox.Filter {
	f.States = []outbox.State{outbox.Dead}
	return f
}

func TestFilter_Match(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	task := outbox.Task{
		Event: outbox.Event{ID: outbox.ID{5}, Name: "n", Key: "k", CreatedAt: at}, State: outbox.Dead, Reason: outbox.ReasonPermanent,
		Failures: []outbox.Failure{{Error: "first: 500"}, {Error: "second: 422"}},
	}
	for _, c := range []struct {
		f    outbox.Filter
		want bool
	}{
		{outbox.Filter{}, true},
		{outbox.Filter{Error: "500"}, true},
		{outbox.Filter{Error: "422"}, true},
		{outbox.Filter{Error: "404"}, false},
		{outbox.Filter{Reason: outbox.ReasonPermanent}, true},
		{outbox.Filter{Reason: outbox.ReasonExhausted}, false},
		{outbox.Filter{Since: at}, true},
		{outbox.Filter{Since: at.Add(1)}, false},
		{outbox.Filter{Before: at}, false},
		{outbox.Filter{Before: at.Add(1)}, true},
		{outbox.Filter{Since: at, Before: at.Add(1), Error: "422", Name: "n", Key: "k", After: outbox.ID{4}}, true},
		{outbox.Filter{After: outbox.ID{5}}, false},
	} {
		require.Equal(t, c.want, c.f.Match(task), "%+v", c.f)
	}
}

// What is requeued by a filter is what it chooses, however many pages that takes.
func TestRequeueWhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("a", 2500)
		f.enqueueMany("b", 10)
		f.kill()
		f.enqueue("a")
		n, err := f.RequeueWhere(t.Context(), outbox.Filter{Name: "a", States: []outbox.State{outbox.Waiting}})
		require.NoError(t, err)
		require.Equal(t, 2500, n)
		st := f.stats()
		require.EqualValues(t, 2501, st.Pending)
		require.EqualValues(t, 10, st.Dead)

		n, err = f.RequeueWhere(t.Context(), outbox.Filter{Error: "take b", Limit: 3})
		require.NoError(t, err)
		require.Equal(t, 3, n)
		n, err = f.RequeueWhere(t.Context(), outbox.Filter{Error: "no such text"})
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// One that cannot be requeued stands in nobody's way.
func TestRequeueWhere_Taken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		first := f.enqueue("a", outbox.WithUnique("u"))
		f.enqueue("b")
		f.kill()
		f.enqueue("c", outbox.WithUnique("u"))
		n, err := f.RequeueWhere(t.Context(), outbox.Filter{})
		require.ErrorIs(t, err, outbox.ErrDuplicate)
		require.ErrorContains(t, err, first.String())
		require.Equal(t, 1, n)
	})
}

// What somebody else has requeued meanwhile is no error.
func TestRequeueWhere_Meanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("a", 1500)
		f.kill()
		var other []outbox.ID
		for _, task := range f.tasks()[:500] {
			other = append(other, task.ID)
		}
		f.store.onRequeue = func() error {
			if other != nil {
				ids := other
				other = nil
				_, err := f.store.Store.Requeue(t.Context(), ids...)
				require.NoError(t, err)
			}
			return nil
		}
		n, err := f.RequeueWhere(t.Context(), outbox.Filter{})
		require.NoError(t, err)
		require.Equal(t, 1000, n)
		require.EqualValues(t, 1500, f.stats().Pending)
	})
}

// An error of the store ends it, and what was done counts.
func TestRequeueWhere_Fails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("a", 3500)
		f.kill()
		calls, broken := 0, errors.New("broken")
		f.store.onRequeue = func() error {
			if calls++; calls == 2 {
				return broken
			}
			return nil
		}
		n, err := f.RequeueWhere(t.Context(), outbox.Filter{})
		require.ErrorIs(t, err, broken)
		require.Equal(t, 1000, n)
		require.Equal(t, 2, calls, "it was not asked again")
		n, err = f.RequeueWhere(t.Context(), outbox.Filter{})
		require.NoError(t, err)
		require.Equal(t, 2500, n, "it goes on where it ended")
	})
}

func TestDeleteWhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t)
		f.enqueueMany("dead", 5)
		f.kill()
		f.enqueueMany("waits", 7)
		flying := make(chan struct{})
		stop := f.start(func(ctx context.Context, e outbox.Event) error {
			if e.Name == "flies" {
				<-flying
			}
			return outbox.RetryAfter(errRefused, time.Hour)
		})
		f.enqueue("flies")
		time.Sleep(time.Second)

		_, err := f.DeleteWhere(t.Context(), outbox.Filter{})
		require.ErrorIs(t, err, outbox.ErrInvalid, "not everything by an oversight")
		n, err := f.DeleteWhere(t.Context(), outbox.Filter{States: []outbox.State{outbox.InFlight}})
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = f.DeleteWhere(t.Context(), dead(outbox.Filter{Name: "waits"}))
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = f.DeleteWhere(t.Context(), outbox.Filter{States: []outbox.State{outbox.Waiting, outbox.InFlight, outbox.Dead}})
		require.NoError(t, err)
		require.Equal(t, 12, n)
		st := f.stats()
		require.EqualValues(t, 12, st.DroppedBy.Deleted)
		require.EqualValues(t, 1, st.InFlight)
		close(flying)
		stop()
	})
}
