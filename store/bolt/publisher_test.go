package bolt_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// No lock and no transaction is held while a publisher works: it may run a transaction
// of its own, and accept, list and delete in and beside it, while others publish.
func TestPublisher_CallsTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	ob := outbox.New(s, outbox.WithConcurrency(2), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	left := make(chan string, 10)
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- ob.Start(running, func(ctx context.Context, e outbox.Event) error {
			if e.Name == "first" {
				if err := meddle(ctx, s, ob); err != nil {
					t.Error(err)
				}
			}
			left <- e.Name
			return nil
		})
	}()
	_, err := ob.Enqueue(ctx, "first", nil)
	require.NoError(t, err)
	var got []string
	for range 4 {
		select {
		case name := <-left:
			got = append(got, name)
		case <-ctx.Done():
			t.Fatal("it hangs, after ", got)
		}
	}
	require.ElementsMatch(t, []string{"first", "in the transaction", "beside it", "done"}, got)
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, s.Flush())
}

// meddle does in a publisher what a program might.
func meddle(ctx context.Context, s *bolt.Store, ob *outbox.Outbox) error {
	err := s.Update(ctx, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("mine"))
		if err != nil {
			return err
		}
		if _, err = ob.Enqueue(bolt.WithTx(ctx, tx), "in the transaction", nil); err != nil {
			return err
		}
		if _, err = ob.Enqueue(ctx, "beside it", nil); err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	if err != nil {
		return err
	}
	if err = s.Flush(); err != nil {
		return err
	}
	id, err := ob.Enqueue(ctx, "deleted", nil, outbox.WithDelay(time.Hour))
	if err != nil {
		return err
	}
	for _, err := range ob.Tasks(ctx, outbox.Filter{}) {
		if err != nil {
			return err
		}
	}
	if _, err = ob.Delete(ctx, id); err != nil {
		return err
	}
	if err = ob.Health(ctx); err != nil {
		return err
	}
	if _, err = s.Audit(ctx); err != nil {
		return err
	}
	return ob.Do(ctx, "done", nil, func(context.Context, outbox.Event) error {
		return outbox.RetryAfter(context.Canceled, time.Millisecond)
	})
}
