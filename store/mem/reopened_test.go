package mem_test

import (
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/stretchr/testify/require"
)

func TestStore_Reopened(t *testing.T) {
	s := mem.New()
	list := []outbox.Task{
		{Event: outbox.Event{Name: "a"}, Lease: time.Hour}, {Event: outbox.Event{Name: "b"}},
		{Event: outbox.Event{Name: "c"}, LatestOnly: "l", Lease: time.Hour},
	}
	require.NoError(t, s.Create(t.Context(), list))
	require.NoError(t, s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "d"}, LatestOnly: "l", Delay: time.Hour}}))

	r := s.Reopened()
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: list[0].ID, Token: list[0].Token, Verdict: outbox.Done}}))
	st, err := r.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, st.Accepted)
	require.EqualValues(t, 3, st.Pending, "what happened to the original later is of no concern")
	require.EqualValues(t, 1, st.DroppedBy.Coalesced, "what was replaced while in flight does not come back")
	require.ErrorIs(t, r.Settle(t.Context(), []outbox.Outcome{{ID: list[0].ID, Token: list[0].Token, Verdict: outbox.Done}}), outbox.ErrLeaseLost)
	got, err := r.Claim(t.Context(), outbox.ClaimRequest{Max: 10})
	require.NoError(t, err)
	require.Len(t, got.Tasks, 2)
}
