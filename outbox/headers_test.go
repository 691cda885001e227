package outbox_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

type traceKey struct{}

func traced(trace string) context.Context {
	return context.WithValue(context.Background(), traceKey{}, trace)
}

// Headers come from the context of the call, and what is said explicitly holds.
func TestWithHeaders(t *testing.T) {
	given := map[string]string{}
	f := setup(t, outbox.WithDefaults(outbox.WithHeader("tenant", "default")), outbox.WithHeaders(func(ctx context.Context) map[string]string {
		trace, _ := ctx.Value(traceKey{}).(string)
		given = map[string]string{"trace": trace, "tenant": "context", "own": "context"}
		return given
	}))
	_, err := f.Enqueue(traced("t1"), "a", nil, outbox.WithHeader("own", "option"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"trace": "t1", "tenant": "context", "own": "context"}, given, "it is only read")
	_, err = f.EnqueueBatch(traced("t2"), []outbox.Event{{Name: "b", Headers: map[string]string{"own": "event"}}, {Name: "c"}})
	require.NoError(t, err)
	var first map[string]string
	require.NoError(t, f.Do(traced("t3"), "d", nil, func(_ context.Context, e outbox.Event) error {
		first = e.Headers
		return nil
	}))
	require.Equal(t, map[string]string{"trace": "t3", "tenant": "default", "own": "context"}, first)
	all := f.tasks()
	require.Equal(t, map[string]string{"trace": "t1", "tenant": "default", "own": "option"}, all[0].Headers)
	require.Equal(t, map[string]string{"trace": "t2", "tenant": "default", "own": "event"}, all[1].Headers)
	require.Equal(t, map[string]string{"trace": "t2", "tenant": "default", "own": "context"}, all[2].Headers)
}

// An event is not lost because its headers could not be made.
func TestWithHeaders_Panic(t *testing.T) {
	f := setup(t, outbox.WithHeaders(func(context.Context) map[string]string { panic("no trace") }))
	f.enqueue("a", outbox.WithHeader("own", "option"))
	f.enqueue("b")
	require.Equal(t, map[string]string{"own": "option"}, f.tasks()[0].Headers)
	require.Len(t, f.log.at(slog.LevelError), 1, "logged once")
}
