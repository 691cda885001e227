package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// brokenFile gets at the descriptor of a store's database and can break it under
// bbolt's feet: the map of the file stays as it was.
type brokenFile struct{ file *os.File }

func (b *brokenFile) open(name string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag, perm)
	b.file = f
	return f, err
}

// replace puts another file behind the descriptor: one that is read-only fails every
// write with EBADF; /dev/null swallows what is written, and fails the sync with
// EINVAL, as a device does whose failed sync has dropped the pages (R10).
func (b *brokenFile) replace(t *testing.T, path string) {
	t.Helper()
	other, err := os.Open(path)
	if path == os.DevNull {
		other, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, syscall.Dup3(int(other.Fd()), int(b.file.Fd()), 0))
}

// requirePoisoned checks that every call of the store is refused, with the cause.
func requirePoisoned(t *testing.T, s *bolt.Store, cause error) {
	t.Helper()
	ctx := t.Context()
	_, claimErr := s.Claim(ctx, outbox.ClaimRequest{Max: 1})
	_, statsErr := s.Stats(ctx)
	_, requeueErr := s.Requeue(ctx, outbox.ID{1})
	_, deleteErr := s.Delete(ctx, outbox.ID{1})
	var listErr error
	for _, err := range s.Tasks(ctx, outbox.Filter{}) {
		listErr = err
	}
	for what, err := range map[string]error{
		"create":  s.Create(ctx, tasks(900, 1)),
		"claim":   claimErr,
		"settle":  s.Settle(ctx, []outbox.Outcome{{ID: outbox.ID{1}, Token: 1, Verdict: outbox.Done}}),
		"stats":   statsErr,
		"requeue": requeueErr,
		"delete":  deleteErr,
		"tasks":   listErr,
		"update":  s.Update(ctx, func(*bbolt.Tx) error { return errors.New("must not be called") }),
	} {
		require.ErrorIs(t, err, outbox.ErrPoisoned, what)
		require.ErrorIs(t, err, cause, what)
	}
}

// P10, R11: a commit of the database that fails for another reason than a full disk
// ends the store. What was accepted is found again when it is reopened, as the log
// still has it.
func TestPoison_Database(t *testing.T) {
	t.Parallel()
	calls := map[string]func(t *testing.T, s *bolt.Store) error{
		"checkpoint": func(_ *testing.T, s *bolt.Store) error { return s.Flush() },
		"update": func(t *testing.T, s *bolt.Store) error {
			return s.Update(t.Context(), func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucketIfNotExists([]byte("application"))
				return err
			})
		},
		"update with an event": func(t *testing.T, s *bolt.Store) error {
			return s.Update(t.Context(), func(tx *bbolt.Tx) error {
				return s.Create(bolt.WithTx(t.Context(), tx), tasks(600, 1))
			})
		},
	}
	faults := map[string]struct {
		path  func(dir string) string
		cause error
	}{
		"write fails": {func(dir string) string { return filepath.Join(dir, "outbox.db") }, syscall.EBADF},
		"sync fails":  {func(string) string { return os.DevNull }, syscall.EINVAL},
	}
	for what, call := range calls {
		for how, fault := range faults {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				dir, broken := t.TempDir(), &brokenFile{}
				s, err := bolt.Open(dir, quiet, bolt.WithOpenFile(broken.open))
				require.NoError(t, err)
				create(t, s, tasks(0, 500)...)
				require.NoError(t, s.Flush())
				done(t, s, claim(t, s, 490)...)
				require.NoError(t, s.Flush()) // leaves free pages: what follows does not make the file grow
				create(t, s, tasks(500, 10)...)
				done(t, s, claim(t, s, 3)...)
				require.NoError(t, s.Sync())

				broken.replace(t, fault.path(dir))
				err = call(t, s)
				require.ErrorIs(t, err, outbox.ErrPoisoned)
				require.ErrorIs(t, err, fault.cause)
				requirePoisoned(t, s, fault.cause)
				require.ErrorIs(t, s.Close(), outbox.ErrPoisoned)
				require.NoError(t, s.Close(), "closing twice does nothing")

				again := open(t, dir)
				require.Len(t, names(t, again), 17)
				require.EqualValues(t, 493, stats(t, again).Delivered)
				require.EqualValues(t, 510, stats(t, again).Accepted)
			})
		}
	}
}

// P10, R9: when the sync of a group fails, everybody who waited for it is told so, and
// nothing is acknowledged any more. What then is on the disk is another matter: all that
// was acknowledged before, and perhaps some of the rest (R14).
func TestPoison_Log(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		kind waltest.Kind
		more int // accepted after the store was opened again
	}{{waltest.Write, 0}, {waltest.Write, 1}, {waltest.Sync, 1}} {
		t.Run(fmt.Sprintf("%v, %d more", one.kind, one.more), func(t *testing.T) {
			t.Parallel()
			kind, dir := one.kind, t.TempDir()
			disk := logDisk(t, dir)
			s, err := bolt.Open(dir, quiet, bolt.WithLogFS(disk))
			require.NoError(t, err)
			create(t, s, tasks(0, 5)...)

			// The first operation of this kind waits until a second group has queued behind it.
			entered, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			disk.Inject(func(op waltest.Op) *waltest.Fault {
				if op.Kind != kind {
					return nil
				}
				once.Do(func() { close(entered); <-release })
				return &waltest.Fault{Err: waltest.ErrIO, Drop: true}
			})
			const producers = 8
			errs := make(chan error, producers)
			begin := func(n int) {
				go func() { errs <- s.Create(context.Background(), tasks(100+n, 1)) }()
			}
			begin(0)
			<-entered
			for n := 1; n < producers; n++ {
				begin(n)
			}
			close(release)
			for range producers {
				err := <-errs
				require.ErrorIs(t, err, outbox.ErrPoisoned)
				require.ErrorIs(t, err, waltest.ErrIO)
			}
			requirePoisoned(t, s, waltest.ErrIO)
			require.ErrorIs(t, s.Close(), outbox.ErrPoisoned)

			// The process lives on and opens the store again: the page cache shows bytes that the disk does not
			// have (R10). Then the power fails.
			disk.Inject(nil)
			again, err := bolt.Open(dir, quiet, bolt.WithLogFS(disk))
			require.NoError(t, err)
			seen := names(t, again)
			require.Subset(t, seen, []string{"n000000", "n000001", "n000002", "n000003", "n000004"})
			for n := range one.more {
				create(t, again, tasks(200+n, 1)...)
				seen = append(seen, "n000200")
			}
			copied := t.TempDir()
			again.Freeze(func() { copyDir(t, dir, copied) })
			crashed := disk.Crash(disk.Ops(), 0)
			require.NoError(t, again.Close())
			require.NoError(t, os.RemoveAll(dir))
			copyDir(t, copied, dir)

			last, err := bolt.Open(dir, quiet, bolt.WithLogFS(crashed))
			require.NoError(t, err)
			require.Equal(t, seen, names(t, last), "what was seen after the reopen stays")
			stats(t, last)
			require.NoError(t, last.Close())
		})
	}
}

// P10: the background finds the error as well, with nobody calling.
func TestPoison_Background(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := logDisk(t, dir)
	s, err := bolt.Open(dir, quiet, bolt.WithLogFS(disk))
	require.NoError(t, err)
	create(t, s, tasks(0, 2)...)
	got := claim(t, s, 1)
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Sync {
			return &waltest.Fault{Err: waltest.ErrIO}
		}
		return nil
	})
	told := make(chan struct{}, 100)
	s.Notify(func() { told <- struct{}{} })
	done(t, s, got...) // it is not durable yet, and will never be
	for {
		<-told
		if _, err := s.Stats(t.Context()); err != nil {
			break
		}
	}
	requirePoisoned(t, s, waltest.ErrIO)
	require.ErrorIs(t, s.Close(), outbox.ErrPoisoned)

	disk.Inject(nil)
	again, err := bolt.Open(dir, quiet, bolt.WithLogFS(disk))
	require.NoError(t, err)
	require.Contains(t, names(t, again), "n000001")
	require.NoError(t, again.Close())
}
