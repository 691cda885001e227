package bolt_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/storetest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// harness opens stores in folders of their own.
type harness struct {
	opts []bolt.Option
	mu   sync.Mutex
	dirs map[outbox.Store]string
}

var quiet = bolt.WithLogger(slog.New(slog.DiscardHandler))

func newHarness(opts ...bolt.Option) *harness {
	opts = append(opts, quiet)
	return &harness{opts: opts, dirs: map[outbox.Store]string{}}
}

func (h *harness) open(t *testing.T, dir string) outbox.Store {
	t.Helper()
	s, err := bolt.Open(dir, h.opts...)
	require.NoError(t, err)
	h.mu.Lock()
	h.dirs[s] = dir
	h.mu.Unlock()
	return s
}

func (h *harness) dir(s outbox.Store) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dirs[s]
}

// reopen closes a store cleanly and opens it again.
func (h *harness) reopen(t *testing.T, s outbox.Store) outbox.Store {
	t.Helper()
	usageIsRight(t, s.(*bolt.Store))
	require.NoError(t, s.Close())
	return h.checked(t, h.dir(s))
}

// crash opens what a SIGKILL at this moment would leave: a copy of the files.
func (h *harness) crash(t *testing.T, s outbox.Store) outbox.Store {
	t.Helper()
	dir := t.TempDir()
	s.(*bolt.Store).Freeze(func() { copyDir(t, h.dir(s), dir) })
	usageIsRight(t, s.(*bolt.Store))
	require.NoError(t, s.Close())
	return h.checked(t, dir)
}

// checked opens a store that has lived, and checks that it knows how much it holds.
func (h *harness) checked(t *testing.T, dir string) outbox.Store {
	t.Helper()
	s := h.open(t, dir)
	usageIsRight(t, s.(*bolt.Store))
	return s
}

func (h *harness) tx(t *testing.T, s outbox.Store, f func(ctx context.Context)) {
	t.Helper()
	require.NoError(t, s.(*bolt.Store).Update(t.Context(), func(tx *bbolt.Tx) error {
		f(bolt.WithTx(t.Context(), tx))
		return nil
	}))
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		in, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path, ".tmp") {
			return nil // the copy of a compaction, which comes and goes beside what is frozen
		}
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = io.Copy(out, in)
		return err
	}))
}

func settled(t *testing.T, s outbox.Store) {
	t.Helper()
	require.NoError(t, s.(*bolt.Store).Sync())
}

func harnessAudit(t *testing.T, s outbox.Store) {
	t.Helper()
	audit(t, s)
}

func TestStore_Conformance(t *testing.T) {
	t.Run("clean close", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		storetest.Run(t, storetest.Harness{
			Open:   func(t *testing.T) outbox.Store { return h.open(t, t.TempDir()) },
			Reopen: h.reopen, Tx: h.tx, Audit: harnessAudit,
		})
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		storetest.Run(t, storetest.Harness{
			Open:   func(t *testing.T) outbox.Store { return h.open(t, t.TempDir()) },
			Reopen: h.crash, Tx: h.tx, Settled: settled, Audit: harnessAudit,
		})
	})
	// With an overlay of eight tasks much goes through the database.
	t.Run("crash, tiny overlay", func(t *testing.T) {
		t.Parallel()
		h := newHarness(bolt.WithOverlay(8, 1000), bolt.WithSegmentBytes(64<<10))
		storetest.Run(t, storetest.Harness{
			Open:   func(t *testing.T) outbox.Store { return h.open(t, t.TempDir()) },
			Reopen: h.crash, Tx: h.tx, Settled: settled, Audit: harnessAudit,
		})
	})
	// Every claim finds what it wants in the database.
	t.Run("flushed before every call", func(t *testing.T) {
		t.Parallel()
		h := newHarness()
		storetest.Run(t, storetest.Harness{
			Open: func(t *testing.T) outbox.Store { return &flushing{Store: h.open(t, t.TempDir()).(*bolt.Store)} },
			Reopen: func(t *testing.T, s outbox.Store) outbox.Store {
				return &flushing{Store: h.reopen(t, s.(*flushing).Store).(*bolt.Store)}
			},
			Tx: func(t *testing.T, s outbox.Store, f func(ctx context.Context)) {
				s.(*flushing).off.Store(true) // a checkpoint would wait for the transaction
				h.tx(t, s.(*flushing).Store, f)
				s.(*flushing).off.Store(false)
			},
			Audit: harnessAudit,
		})
	})
}

// flushing makes a checkpoint before every call of the data path.
type flushing struct {
	*bolt.Store
	off atomic.Bool
}

func (f *flushing) flush() {
	if !f.off.Load() {
		_ = f.Flush() // an error comes back from the call itself
	}
}

func (f *flushing) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	f.flush()
	return f.Store.Claim(ctx, req)
}

func (f *flushing) Settle(ctx context.Context, o []outbox.Outcome) error {
	f.flush()
	return f.Store.Settle(ctx, o)
}

func (f *flushing) Stats(ctx context.Context) (outbox.Stats, error) {
	f.flush()
	return f.Store.Stats(ctx)
}
