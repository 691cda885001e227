package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

// stamped embeds a time.Time, and with it a MarshalBinary nobody has asked for.
type stamped struct {
	time.Time
	ID int
}

func (s stamped) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"at": s.Unix(), "id": s.ID})
}

type failing struct{ how string }

func (f failing) MarshalJSON() ([]byte, error) {
	if f.how == "panics" {
		panic("boom")
	}
	return nil, errRefused
}

func TestEnqueue_Payload(t *testing.T) {
	var nothing *int
	for _, c := range []struct {
		name        string
		payload     any
		want        string
		contentType string
	}{
		{"bytes", []byte("raw\x00"), "raw\x00", "application/octet-stream"},
		{"no bytes", []byte{}, "", "application/octet-stream"},
		{"nil bytes", []byte(nil), "", "application/octet-stream"},
		{"raw JSON", json.RawMessage(` {"a":  1} `), ` {"a":  1} `, "application/json"},
		{"nil raw JSON", json.RawMessage(nil), "null", "application/json"},
		{"nil", nil, "null", "application/json"},
		{"nil pointer", nothing, "null", "application/json"},
		{"text", "a", `"a"`, "application/json"},
		{"number", 7, "7", "application/json"},
		{"struct", struct{ A int }{7}, `{"A":7}`, "application/json"},
		{"time", time.Unix(0, 0).UTC(), `"1970-01-01T00:00:00Z"`, "application/json"},
		{"binary marshaler", stamped{time.Unix(7, 0), 1}, `{"at":7,"id":1}`, "application/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setup(t)
			_, err := f.Enqueue(t.Context(), "e", c.payload)
			require.NoError(t, err)
			task := f.task()
			require.Equal(t, c.want, string(task.Payload))
			require.Equal(t, c.contentType, task.ContentType)
		})
	}
}

func TestEnqueue_PayloadMayBeReused(t *testing.T) {
	f := setup(t)
	b := []byte("one")
	_, err := f.Enqueue(t.Context(), "e", b)
	require.NoError(t, err)
	copy(b, "two")
	require.Equal(t, "one", string(f.task().Payload))
}

// What can never be accepted is refused before anything is stored, and the text says
// what is wrong.
func TestEnqueue_BadInput(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		what    string
		name    string
		payload any
		opts    []outbox.EventOption
		want    error
		says    string
	}{
		{"no name", "", nil, nil, outbox.ErrInvalid, "name is empty"},
		{"long name", long[:256], nil, nil, outbox.ErrTooLarge, "name of 256 bytes, the limit is 255"},
		{"long key", "e", nil, []outbox.EventOption{outbox.WithKey(long[:1025])}, outbox.ErrTooLarge, "key of 1025 bytes, the limit is 1024"},
		{"long unique key", "e", nil, []outbox.EventOption{outbox.WithUnique(long)}, outbox.ErrTooLarge, "unique key of 2000 bytes"},
		{"long latest-only key", "e", nil, []outbox.EventOption{outbox.WithLatestOnly(long)}, outbox.ErrTooLarge, "latest-only key of 2000 bytes"},
		{"empty header name", "e", nil, []outbox.EventOption{outbox.WithHeader("", "v")}, outbox.ErrInvalid, "header's name is empty"},
		{"large headers", "e", nil, []outbox.EventOption{outbox.WithHeader("h", strings.Repeat(long, 33))}, outbox.ErrTooLarge, "headers of 66001 bytes, the limit is 65536"},
		{"large payload", "e", make([]byte, 101), nil, outbox.ErrTooLarge, "payload of 101 bytes, the limit is 100"},
		{"large JSON", "e", long, nil, outbox.ErrTooLarge, "payload of 2002 bytes"},
		{"not JSON", "e", json.RawMessage("{"), nil, outbox.ErrInvalid, "json.RawMessage of 1 bytes is not JSON"},
		{"empty raw JSON", "e", json.RawMessage{}, nil, outbox.ErrInvalid, "json.RawMessage of 0 bytes is not JSON"},
		{"channel", "e", make(chan int), nil, outbox.ErrInvalid, "unsupported type: chan int"},
		{"not a number", "e", math.NaN(), nil, outbox.ErrInvalid, "unsupported value"},
		{"failing MarshalJSON", "e", failing{}, nil, outbox.ErrInvalid, "refused"},
		{"panicking MarshalJSON", "e", failing{"panics"}, nil, outbox.ErrInvalid, "panicked: boom"},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := setup(t, outbox.WithMaxPayload(100))
			never := func(context.Context, outbox.Event) error { t.Error("published"); return nil }
			id, err := f.Enqueue(t.Context(), c.name, c.payload, c.opts...)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
			require.True(t, id.IsZero())
			err = f.Do(t.Context(), c.name, c.payload, never, append(c.opts, outbox.PublishFirst())...)
			require.ErrorIs(t, err, c.want)
			require.Zero(t, f.stats().Accepted)
		})
	}
	t.Run("an encoder's error can be looked into", func(t *testing.T) {
		_, err := setup(t).Enqueue(t.Context(), "e", failing{})
		require.ErrorIs(t, err, errRefused)
	})
}

// At the limits all is well.
func TestEnqueue_AtTheLimits(t *testing.T) {
	f := setup(t)
	_, err := f.Enqueue(t.Context(), strings.Repeat("n", outbox.MaxNameBytes), make([]byte, 1<<20),
		outbox.WithKey(strings.Repeat("k", outbox.MaxKeyBytes)),
		outbox.WithUnique(strings.Repeat("u", outbox.MaxKeyBytes)),
		outbox.WithHeader("h", strings.Repeat("v", outbox.MaxHeaders-1)))
	require.NoError(t, err)
	require.Len(t, f.task().Key, outbox.MaxKeyBytes)
}

func TestEnqueue_Options(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for _, c := range []struct {
		name  string
		opts  []outbox.EventOption
		check func(t *testing.T, task outbox.Task)
	}{
		{"none", nil, func(t *testing.T, task outbox.Task) {
			require.Equal(t, 3, task.MaxAttempts)
			require.Equal(t, time.Now().UTC(), task.DueAt)
			require.True(t, task.ExpiresAt.IsZero())
		}},
		{"zero and negative", []outbox.EventOption{
			outbox.WithMaxAttempts(-1), outbox.WithDelay(-1), outbox.WithTTL(-1), outbox.WithKey(""), nil,
		}, func(t *testing.T, task outbox.Task) {
			require.Equal(t, 3, task.MaxAttempts)
			require.Equal(t, time.Now().UTC(), task.DueAt)
			require.True(t, task.ExpiresAt.IsZero())
		}},
		{"all", []outbox.EventOption{
			outbox.WithMaxAttempts(9), outbox.WithDelay(time.Minute), outbox.WithTTL(time.Hour), outbox.WithKey("k"),
			outbox.WithUnique("u"), outbox.WithLatestOnly("l"), outbox.WithHeader("a", "1"), outbox.WithHeader("a", "2"),
		}, func(t *testing.T, task outbox.Task) {
			require.Equal(t, 9, task.MaxAttempts)
			require.Equal(t, time.Minute, time.Until(task.DueAt))
			require.Equal(t, time.Hour, time.Until(task.ExpiresAt))
			require.Equal(t, "k u l", task.Key+" "+task.Unique+" "+task.LatestOnly)
			require.Equal(t, map[string]string{"a": "2"}, task.Headers)
		}},
		{"far away", []outbox.EventOption{outbox.WithDueAt(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)), outbox.WithTTL(math.MaxInt64)},
			func(t *testing.T, task outbox.Task) {
				require.Equal(t, century, time.Until(task.DueAt))
				require.Equal(t, century, time.Until(task.ExpiresAt))
			}},
		{"long ago", []outbox.EventOption{outbox.WithDueAt(time.Unix(-1<<40, 0))},
			func(t *testing.T, task outbox.Task) { require.Equal(t, time.Now().UTC(), task.DueAt) }},
		{"one of your own, that meddles", []outbox.EventOption{func(t *outbox.Task) {
			t.ID, t.Attempts, t.Token, t.Lease, t.Failures = outbox.ID{1}, 7, 7, time.Hour, make([]outbox.Failure, 1)
			t.ContentType = "text/plain"
		}}, func(t *testing.T, task outbox.Task) {
			require.NotEqual(t, outbox.ID{1}, task.ID)
			require.Zero(t, task.Attempts)
			require.Empty(t, task.Failures)
			require.Equal(t, outbox.Waiting, task.State)
			require.Equal(t, "text/plain", task.ContentType)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := setup(t)
				f.enqueue("e", c.opts...)
				c.check(t, f.task())
			})
		})
	}
}

func TestNew_WithDefaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithDefaults(outbox.WithMaxAttempts(9), outbox.WithKey("d")), nil,
			outbox.WithDefaults(outbox.WithHeader("from", "default"), outbox.WithHeader("app", "a")))
		f.enqueue("plain")
		f.enqueue("own", outbox.WithMaxAttempts(1), outbox.WithHeader("from", "call"), outbox.WithKey("own"))
		f.enqueue("back to the default of the library", outbox.WithMaxAttempts(0))
		_, err := f.EnqueueBatch(t.Context(), []outbox.Event{
			{Name: "batch", Key: "event", Headers: map[string]string{"from": "event"}},
			{Name: "batch, plain"},
		}, outbox.WithHeader("app", "call"))
		require.NoError(t, err)

		tasks := f.tasks()
		require.Equal(t, 9, tasks[0].MaxAttempts)
		require.Equal(t, map[string]string{"from": "default", "app": "a"}, tasks[0].Headers)
		require.Equal(t, 1, tasks[1].MaxAttempts)
		require.Equal(t, map[string]string{"from": "call", "app": "a"}, tasks[1].Headers)
		require.Equal(t, "own", tasks[1].Key)
		require.Equal(t, 3, tasks[2].MaxAttempts)
		require.Equal(t, "event", tasks[3].Key)
		require.Equal(t, map[string]string{"from": "event", "app": "call"}, tasks[3].Headers)
		require.Equal(t, "d", tasks[4].Key)
		require.Equal(t, map[string]string{"from": "default", "app": "call"}, tasks[4].Headers)
	})
}

func TestEnqueueBatch(t *testing.T) {
	f := setup(t)
	headers := map[string]string{"a": "1"}
	ids, err := f.EnqueueBatch(t.Context(), []outbox.Event{
		{ID: outbox.ID{9}, Name: "one", Payload: []byte("1"), Headers: headers, Attempt: 4},
		{Name: "two", Payload: []byte("{}"), ContentType: "application/json", Key: "k"},
	}, outbox.WithTTL(time.Hour), outbox.WithHeader("b", "2"))
	require.NoError(t, err)
	tasks := f.tasks()
	require.Len(t, tasks, 2)
	require.Equal(t, []outbox.ID{tasks[0].ID, tasks[1].ID}, ids)
	require.Equal(t, "application/octet-stream", tasks[0].ContentType)
	require.Equal(t, "application/json", tasks[1].ContentType)
	require.Equal(t, "k", tasks[1].Key)
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, tasks[0].Headers)
	require.Equal(t, map[string]string{"a": "1"}, headers, "the caller's map is left alone")
	require.False(t, tasks[1].ExpiresAt.IsZero())

	ids, err = f.EnqueueBatch(t.Context(), nil)
	require.NoError(t, err)
	require.Nil(t, ids)
}

func TestEnqueueBatch_AllOrNone(t *testing.T) {
	f := setup(t)
	ids, err := f.EnqueueBatch(t.Context(), []outbox.Event{{Name: "one"}, {Name: ""}})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, "event 1 of 2")
	require.Nil(t, ids)
	ids, err = f.EnqueueBatch(t.Context(), []outbox.Event{{Name: "one"}, {Name: "two"}}, outbox.WithUnique("u"))
	require.ErrorIs(t, err, outbox.ErrDuplicate)
	require.Nil(t, ids)
	require.Zero(t, f.stats().Accepted)
}

// An ID comes with ErrOutcomeUnknown, for then the event may be there.
func TestEnqueue_OutcomeUnknown(t *testing.T) {
	f := setup(t)
	want := outbox.ID{1, 2, 3}
	f.store.onCreate = func(tasks []outbox.Task) error {
		for i := range tasks {
			tasks[i].ID = want
		}
		return fmt.Errorf("bolt: %w: %w", outbox.ErrOutcomeUnknown, context.Canceled)
	}
	id, err := f.Enqueue(t.Context(), "e", nil)
	require.ErrorIs(t, err, outbox.ErrOutcomeUnknown)
	require.Equal(t, want, id)
	ids, err := f.EnqueueBatch(t.Context(), []outbox.Event{{Name: "e"}})
	require.ErrorIs(t, err, outbox.ErrOutcomeUnknown)
	require.Equal(t, []outbox.ID{want}, ids)

	f.store.onCreate = func(tasks []outbox.Task) error { tasks[0].ID = want; return outbox.ErrFull }
	id, err = f.Enqueue(t.Context(), "e", nil)
	require.ErrorIs(t, err, outbox.ErrFull)
	require.True(t, id.IsZero())
}

func TestNew_NilStore(t *testing.T) {
	require.PanicsWithValue(t, "outbox: New was given a nil Store", func() { outbox.New(nil) })
}

func TestEvent_Decode(t *testing.T) {
	e := outbox.Event{Name: "e", Payload: []byte(`{"A":7}`)}
	var v struct{ A int }
	require.NoError(t, e.Decode(&v))
	require.Equal(t, 7, v.A)
	var raw []byte
	require.NoError(t, e.Decode(&raw))
	require.Equal(t, `{"A":7}`, string(raw))
	raw[0] = 'x'
	require.Equal(t, `{"A":7}`, string(e.Payload))
	e.Payload = []byte("{")
	require.ErrorContains(t, e.Decode(&v), `decode payload of "e"`)
}

func TestTask_Fail(t *testing.T) {
	var task outbox.Task
	for i := range 20 {
		task.Fail(outbox.Failure{Attempt: i, Error: strings.Repeat("é", 1000)})
	}
	require.Len(t, task.Failures, outbox.MaxFailures)
	require.Equal(t, 12, task.Failures[0].Attempt)
	require.LessOrEqual(t, len(task.Failures[7].Error), outbox.MaxErrorBytes)
	require.True(t, strings.HasSuffix(task.Failures[7].Error, "é … (cut)"))
}

func TestDropped(t *testing.T) {
	var d outbox.Dropped
	for i, r := range []outbox.Reason{outbox.ReasonExpired, outbox.ReasonCoalesced, outbox.ReasonQuota, outbox.ReasonDeleted, outbox.ReasonPermanent} {
		d.Add(r, uint64(1)<<i)
	}
	require.Equal(t, outbox.Dropped{Expired: 1, Coalesced: 2, Quota: 4, Deleted: 8}, d, "a dead letter is not dropped")
	require.Equal(t, uint64(15), d.Total())
}

func TestState(t *testing.T) {
	require.Equal(t, "waiting, in flight, dead, unknown",
		fmt.Sprintf("%v, %v, %v, %v", outbox.Waiting, outbox.InFlight, outbox.Dead, outbox.State(9)))
}

// What is passed on to the store.
func TestOutbox_Admin(t *testing.T) {
	ob := outbox.New(mem.New(), quiet())
	id, err := ob.Enqueue(t.Context(), "e", nil)
	require.NoError(t, err)
	_, err = ob.Requeue(t.Context(), id)
	require.ErrorIs(t, err, outbox.ErrNotFound)
	names := ""
	for task, err := range ob.Tasks(t.Context(), outbox.Filter{Name: "e"}) {
		require.NoError(t, err)
		names += task.Name
	}
	require.Equal(t, "e", names)
	n, err := ob.Delete(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	st, err := ob.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), st.DroppedBy.Deleted)
}
