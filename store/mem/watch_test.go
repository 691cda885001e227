package mem_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

func TestWatch(t *testing.T) {
	s := mem.New()
	var got outbox.Dropped
	stop := s.Watch(outbox.Watch{Dropped: func(r outbox.Reason, n uint64) {
		got.Add(r, n)
		_, err := s.Stats(t.Context()) // no lock is held
		require.NoError(t, err)
	}})
	s.Watch(outbox.Watch{Synced: func(uint64, time.Duration) { t.Error("there is nothing to sync") }})
	tasks := []outbox.Task{{Event: outbox.Event{Name: "a"}, LatestOnly: "k"}, {Event: outbox.Event{Name: "b"}, LatestOnly: "k"}, {Event: outbox.Event{Name: "c"}}}
	require.NoError(t, s.Create(t.Context(), tasks))
	require.Equal(t, outbox.Dropped{Coalesced: 1}, got)
	_, err := s.Delete(t.Context(), tasks[1].ID)
	require.NoError(t, err)
	require.Equal(t, outbox.Dropped{Coalesced: 1, Deleted: 1}, got)
	stop()
	_, err = s.Delete(t.Context(), tasks[2].ID)
	require.NoError(t, err)
	require.Equal(t, outbox.Dropped{Coalesced: 1, Deleted: 1}, got)
	require.NoError(t, s.Close())
	s.Watch(outbox.Watch{})()
}
