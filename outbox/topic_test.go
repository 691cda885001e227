package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

func TestTopic(t *testing.T) {
	type order struct{ ID int }
	f := setup(t, outbox.WithDefaults(outbox.WithHeader("from", "defaults"), outbox.WithKey("default")))
	orders := outbox.NewTopic[order](f.Outbox, "order.created", outbox.WithKey("topic"), outbox.WithMaxAttempts(7))
	_, err := orders.Enqueue(t.Context(), order{1})
	require.NoError(t, err)
	_, err = orders.Enqueue(t.Context(), order{2}, outbox.WithKey("event"))
	require.NoError(t, err)
	_, err = outbox.NewTopic[order](f.Outbox, "").Enqueue(t.Context(), order{3})
	require.ErrorIs(t, err, outbox.ErrInvalid)

	got := f.tasks()
	require.Len(t, got, 2)
	for i, key := range []string{"topic", "event"} {
		var o order
		require.NoError(t, got[i].Decode(&o))
		require.Equal(t, order{i + 1}, o)
		require.Equal(t, "order.created", got[i].Name)
		require.Equal(t, key, got[i].Key)
		require.Equal(t, 7, got[i].MaxAttempts)
		require.Equal(t, "defaults", got[i].Headers["from"])
	}
}
