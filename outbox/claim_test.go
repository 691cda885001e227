package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
)

// distant is a store on a server: a claim takes its time. The first one gives little.
type distant struct {
	*mem.Store
	claims int // of one dispatcher
}

func (s *distant) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	time.Sleep(10 * time.Millisecond)
	if s.claims++; s.claims == 1 {
		req.Max = 8
	}
	return s.Store.Claim(ctx, req)
}

// Right after a claim nothing of it has been published; what has been during the claim says how much to ask for.
// Else whoever has got eight asks for eight, half of what idle workers could take, for ever.
func TestDrain_SlowClaimsGrow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &distant{Store: mem.New()}
		ob := outbox.New(s, quiet())
		for i := range 2000 {
			_, err := ob.Enqueue(t.Context(), "a", fmt.Sprint(i))
			require.NoError(t, err)
		}
		done, err := ob.Drain(t.Context(), func(context.Context, outbox.Event) error {
			time.Sleep(time.Millisecond / 10)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, outbox.Drained{Delivered: 2000}, done)
		require.Less(t, s.claims, 80, "32 at a time, or more")
		require.NoError(t, s.Close())
	})
}
