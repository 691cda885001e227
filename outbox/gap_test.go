package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/stretchr/testify/require"
)

// What has expired is told before what survived, and as often as it takes; only if asked.
func TestWithGapMarkers(t *testing.T) {
	for _, asked := range []bool{true, false} {
		t.Run(fmt.Sprint("asked ", asked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := mem.New()
				defer store.Close()
				opts := []outbox.Option{outbox.WithConcurrency(1)}
				if asked {
					opts = append(opts, outbox.WithGapMarkers())
				}
				ob := outbox.New(store, opts...)
				began := time.Now()
				var dropped []outbox.ID
				for range 3 {
					id, err := ob.Enqueue(t.Context(), "reading", 1, outbox.WithTTL(time.Minute))
					require.NoError(t, err)
					dropped = append(dropped, id)
					time.Sleep(time.Second)
				}
				_, err := ob.Enqueue(t.Context(), "alarm", 1)
				require.NoError(t, err)
				time.Sleep(time.Hour)

				var got []string
				var gap outbox.Gap
				refused := 0
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				require.NoError(t, ob.Start(ctx, func(_ context.Context, e outbox.Event) error {
					got = append(got, e.Name)
					if e.Name != outbox.GapName {
						return nil
					}
					if refused++; refused <= 10 {
						return errors.New("not now")
					}
					return e.Decode(&gap)
				}))
				st, err := ob.Stats(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 3, st.DroppedBy.Expired)
				if !asked {
					require.Equal(t, []string{"alarm"}, got)
					return
				}
				require.Equal(t, []string{outbox.GapName, "alarm"}, got[:2])
				require.Len(t, got, 12, "more attempts than other events have")
				require.Equal(t, outbox.Gap{
					Reason: outbox.ReasonExpired, Count: 3, First: dropped[0], Last: dropped[2],
					From: gap.From, To: gap.To,
				}, gap)
				require.True(t, gap.From.Equal(began) && gap.To.Equal(began.Add(2*time.Second)), "%v", gap)
				require.EqualValues(t, 2, st.Delivered)
			})
		})
	}
}

// With a Mux, gaps go where a pattern sends them; without one they stay untold, and do not
// become dead letters without end.
func TestWithGapMarkers_Mux(t *testing.T) {
	for _, handled := range []bool{true, false} {
		t.Run(fmt.Sprint("handled ", handled), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t, outbox.WithGapMarkers())
				var s scribe
				m := outbox.NewMux()
				require.NoError(t, m.Handle("reading", s.as("cloud")))
				if handled {
					require.NoError(t, m.Destination("another").Handle(outbox.GapName, s.as("gaps")))
				}
				f.enqueue("reading", outbox.WithTTL(time.Second))
				time.Sleep(time.Minute)
				f.enqueue("reading")
				f.startMux(m)
				time.Sleep(time.Second) // less than the loop interval
				st, err := f.Stats(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 1, st.DroppedBy.Expired)
				require.Zero(t, st.Dead)
				want := []string{"reading→cloud"}
				if handled {
					want = []string{outbox.GapName + "→gaps", "reading→cloud"}
				}
				require.Equal(t, want, s.take())
			})
		})
	}
}

// The order in which drops are added makes no difference.
func TestUntold_Add(t *testing.T) {
	at := func(n int) outbox.Untold {
		return outbox.UntoldOf(outbox.Task{
			Event: outbox.Event{ID: outbox.ID{byte(n)}, CreatedAt: time.Unix(int64(n), 0)}, DueAt: time.Unix(int64(10-n), 0), Priority: outbox.Priority(n%2 - 1),
		}, outbox.ReasonQuota)
	}
	var up, down outbox.Untold
	for n := range 5 {
		up.Add(at(n))
		down.Add(at(4 - n))
	}
	require.Equal(t, up, down)
	require.Equal(t, outbox.Untold{
		Gap: outbox.Gap{Reason: outbox.ReasonQuota, Count: 5, Last: outbox.ID{4}, From: time.Unix(0, 0), To: time.Unix(4, 0)},
		Due: time.Unix(6, 0), Priority: outbox.Normal,
	}, up)
	before := up
	up.Add(outbox.Untold{})
	require.Equal(t, before, up)

	// A gap that is dropped is told again, with whatever else.
	task := up.Task()
	task.DueAt, task.ID = time.Unix(1, 0), outbox.ID{99}
	again := outbox.UntoldOf(task, outbox.ReasonQuota)
	require.EqualValues(t, 5, again.Count)
	require.Equal(t, outbox.ID{4}, again.Last)
	for _, why := range []outbox.Reason{outbox.ReasonCoalesced, outbox.ReasonDeleted} {
		require.Zero(t, outbox.UntoldOf(task, why), "no gap tells of these")
	}
	task.Payload = []byte("{}")
	require.EqualValues(t, 1, outbox.UntoldOf(task, outbox.ReasonQuota).Count, "not one that a store has made")
}

func ExampleWithGapMarkers() {
	ob := outbox.New(mem.New(), outbox.WithGapMarkers()) // a store on disk, with a quota
	_ = ob.Start(context.Background(), func(ctx context.Context, e outbox.Event) error {
		if e.Name != outbox.GapName {
			return nil // publish it
		}
		var gap outbox.Gap
		if err := e.Decode(&gap); err != nil {
			return outbox.Permanent(err)
		}
		fmt.Printf("%d readings will not come, from %s to %s: %s\n", gap.Count, gap.From, gap.To, gap.Reason)
		return nil
	})
}
