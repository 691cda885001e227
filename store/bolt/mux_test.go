package bolt_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
)

// No destination of a Mux sleeps for its day while there is something for it: what one has
// delivered lets the next of the key go, which is for the other, whether the store has it
// in memory or in the database; a transaction has committed; a retry is due.
func TestStore_MuxIsWoken(t *testing.T) {
	for name, opts := range map[string][]bolt.Option{
		"in memory":       nil,
		"in the database": {bolt.WithOverlay(8, 1000), bolt.WithSegmentBytes(64 << 10)},
		"names shared":    {bolt.WithMaxQueues(1)},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := bolt.Open(t.TempDir(), append(opts, quiet)...)
			require.NoError(t, err)
			defer s.Close()
			ob := outbox.New(s, outbox.WithLoopInterval(24*time.Hour), outbox.WithLogger(slog.New(slog.DiscardHandler)),
				outbox.WithBackoff(func(int) time.Duration { return time.Millisecond }))
			m, taken := takers(t)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- ob.StartMux(ctx, m) }()
			await := func(n int) {
				t.Helper()
				deadline := time.After(30 * time.Second)
				for range n {
					select {
					case <-taken:
					case <-deadline:
						require.Fail(t, "a destination was not woken")
					}
				}
			}
			for round := range 20 {
				for _, name := range []string{"a.1", "b.1", "a.2", "b.refused", "a.3"} {
					_, err := ob.Enqueue(t.Context(), name, round, outbox.WithKey("k"))
					require.NoError(t, err)
				}
				require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
					_, err := ob.Enqueue(bolt.WithTx(t.Context(), tx), "b.2", round, outbox.WithKey("k"))
					return err
				}))
				await(6)
				_, err := ob.EnqueueBatch(t.Context(), []outbox.Event{{Name: "a.4"}, {Name: "b.3"}, {Name: "c.1"}})
				require.NoError(t, err)
				await(3)
			}
			stop()
			require.NoError(t, <-ended)
		})
	}
}

// takers is a Mux whose destinations take everything, b.refused the second time.
func takers(t *testing.T) (m *outbox.Mux, taken chan string) {
	t.Helper()
	taken = make(chan string, 1000)
	m = outbox.NewMux()
	for _, pattern := range []string{"a.*", "b.*", "c.*", "d.*", "e.*"} {
		require.NoError(t, m.Handle(pattern, func(_ context.Context, e outbox.Event) error {
			if e.Name == "b.refused" && e.Attempt == 1 {
				return errors.New("refused")
			}
			taken <- e.Name
			return nil
		}))
	}
	return m, taken
}
