package bolt_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

var errNo = errors.New("no")

// inTx creates tasks in a transaction and ends it with the error that is given.
func inTx(t *testing.T, s *bolt.Store, end error, list ...outbox.Task) error {
	t.Helper()
	return s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("orders"))
		require.NoError(t, err)
		require.NoError(t, b.Put([]byte(list[0].Name), nil))
		require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), list))
		return end
	})
}

func TestStore_Update(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	told := make(chan struct{}, 10)
	defer s.Notify(func() { told <- struct{}{} })()

	require.ErrorIs(t, inTx(t, s, errNo, tasks(0, 1)...), errNo)
	require.Empty(t, names(t, s), "rolled back")
	require.Zero(t, stats(t, s).Accepted)

	require.NoError(t, inTx(t, s, nil, tasks(1, 2)...))
	require.Len(t, told, 1, "a commit wakes those who wait for work")
	require.Equal(t, []string{"n000001", "n000002"}, names(t, s))
	require.EqualValues(t, 2, stats(t, s).Pending)

	create(t, s, tasks(3, 1)...)
	got := claim(t, s, 10)
	require.Len(t, got, 3)
	require.Less(t, got[0].ID.String(), got[1].ID.String())
	require.Less(t, got[1].ID.String(), got[2].ID.String())
	done(t, s, got[:2]...)
	require.NoError(t, s.Close())

	again := open(t, dir)
	require.Equal(t, []string{"n000003"}, names(t, again))
	require.EqualValues(t, 3, stats(t, again).Accepted)
	require.EqualValues(t, 2, stats(t, again).Delivered)
}

// A panic in the application's function rolls back, and the store goes on.
func TestStore_Update_Panic(t *testing.T) {
	s := open(t, t.TempDir())
	require.Panics(t, func() {
		_ = s.Update(t.Context(), func(tx *bbolt.Tx) error {
			require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 1)))
			panic("oh")
		})
	})
	require.NoError(t, inTx(t, s, nil, tasks(1, 1)...))
	require.Equal(t, []string{"n000001"}, names(t, s))
}

// Accepting never waits for the database's writer lock, not even in the goroutine
// that holds it; it says so when memory is full.
func TestStore_Update_CreateOutside(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithOverlay(8, 16))
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		begin := time.Now()
		create(t, s, tasks(0, 10)...)
		require.Less(t, time.Since(begin), 10*time.Second)
		create(t, s, tasks(10, 10)...)
		err := s.Create(t.Context(), tasks(20, 1))
		require.ErrorIs(t, err, outbox.ErrFull)
		require.ErrorContains(t, err, "writer lock")
		return nil
	}))
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.NoError(c, s.Create(t.Context(), tasks(20, 1))) }, 10*time.Second, time.Millisecond)
	require.Len(t, names(t, s), 21)
}

func TestStore_Update_Refused(t *testing.T) {
	s, other := open(t, t.TempDir()), open(t, t.TempDir())
	require.NoError(t, other.Update(t.Context(), func(tx *bbolt.Tx) error {
		require.ErrorIs(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 1)), outbox.ErrTxUnsupported)
		return nil
	}))
	var over *bbolt.Tx
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { over = tx; return nil }))
	require.ErrorIs(t, s.Create(bolt.WithTx(t.Context(), over), tasks(0, 1)), outbox.ErrTxUnsupported)
	require.ErrorIs(t, s.Create(bolt.WithTx(t.Context(), nil), tasks(0, 1)), outbox.ErrTxUnsupported)
	require.ErrorIs(t, s.Create(outbox.WithTx(t.Context(), "other"), tasks(0, 1)), outbox.ErrTxUnsupported)
	require.Empty(t, names(t, s))
}

// Unique keys hold across transactions and outside of them.
func TestStore_Update_Unique(t *testing.T) {
	s := open(t, t.TempDir())
	unique := func(key string) outbox.Task { return outbox.Task{Event: outbox.Event{Name: key}, Unique: key} }
	create(t, s, unique("memory"))
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		ctx := bolt.WithTx(t.Context(), tx)
		require.ErrorIs(t, s.Create(ctx, []outbox.Task{unique("memory")}), outbox.ErrDuplicate)
		require.NoError(t, s.Create(ctx, []outbox.Task{unique("tx")}))
		require.ErrorIs(t, s.Create(ctx, []outbox.Task{unique("tx")}), outbox.ErrDuplicate)
		return nil
	}))
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{unique("tx")}), outbox.ErrDuplicate)
	done(t, s, claim(t, s, 10)...)
	require.NoError(t, inTx(t, s, nil, unique("tx")))
	require.Equal(t, []string{"tx"}, names(t, s))
}

// A LatestOnly task in a transaction replaces those before it, wherever they are.
func TestStore_Update_LatestOnly(t *testing.T) {
	s := open(t, t.TempDir())
	latest := func(name string) outbox.Task { return outbox.Task{Event: outbox.Event{Name: name}, LatestOnly: "l"} }
	create(t, s, latest("1"))
	require.NoError(t, inTx(t, s, nil, latest("2")))
	require.NoError(t, s.Flush())
	require.NoError(t, inTx(t, s, nil, latest("3")))
	got := claim(t, s, 10)
	require.Len(t, got, 1)
	require.Equal(t, "3", got[0].Name)
	require.EqualValues(t, 2, stats(t, s).DroppedBy.Coalesced)
}

// One that is replaced in a transaction, and waits in the database, holds nobody up:
// neither now nor after a crash.
func TestStore_Update_LatestOnly_Head(t *testing.T) {
	for _, crash := range []bool{false, true} {
		h := newHarness()
		s := h.open(t, t.TempDir()).(*bolt.Store)
		old, behind := latestOf("old", "l"), named("behind")
		old.Key, behind.Key = "k", "k"
		create(t, s, old, behind)
		require.NoError(t, s.Flush())
		require.Empty(t, claim(t, s, 1))
		require.NoError(t, inTx(t, s, nil, latestOf("new", "l")))
		if crash {
			s = h.crash(t, s).(*bolt.Store)
		}
		audit(t, s)
		got := claim(t, s, 10)
		require.Len(t, got, 1)
		require.Equal(t, "behind", got[0].Name)
		require.EqualValues(t, 1, stats(t, s).DroppedBy.Coalesced)
		require.NoError(t, s.Flush())
		audit(t, s)
		require.NoError(t, s.Close())
	}
}

// One that only the log has is dropped by a record of its own. When a crash takes
// that back, the old one must not outlive the new one.
func TestStore_Update_LatestOnly_DropLost(t *testing.T) {
	h := newHarness(bolt.WithAckSync(time.Hour))
	s := h.open(t, t.TempDir()).(*bolt.Store)
	head, old, behind := named("head"), latestOf("old", "l"), named("behind")
	head.Key, old.Key, behind.Key = "k", "k", "k"
	newer := latestOf("new", "l")
	newer.Delay = 0
	create(t, s, head, old, behind)
	require.NoError(t, inTx(t, s, nil, newer))
	s = h.crash(t, s).(*bolt.Store)
	got := claim(t, s, 10)
	require.Len(t, got, 2)
	done(t, s, got[1])
	require.NoError(t, s.Flush())
	done(t, s, got[0])
	require.NoError(t, s.Flush())
	got = claim(t, s, 10)
	require.Len(t, got, 1)
	require.Equal(t, "behind", got[0].Name)
	require.EqualValues(t, 1, stats(t, s).DroppedBy.Coalesced)
	audit(t, s)
	require.NoError(t, s.Close())
}

// Memory may have the one that is replaced, and a checkpoint may be about to write
// it: it must not leave a place behind that points nowhere.
func TestStore_Update_LatestOnly_InMemory(t *testing.T) {
	unique := named("unique")
	unique.Unique = "u"
	t.Run("loaded", func(t *testing.T) {
		s := open(t, t.TempDir())
		create(t, s, latestOf("old", "l"), unique)
		require.NoError(t, s.Flush())
		require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{latestOf("refused", "l"), unique}), outbox.ErrDuplicate)
		require.NoError(t, inTx(t, s, nil, latestOf("new", "l")))
		audit(t, s)
		require.NoError(t, s.Flush())
		audit(t, s)
		require.Equal(t, []string{"unique", "new"}, names(t, s))
	})
	t.Run("deleted, while a checkpoint waits for the transaction", func(t *testing.T) {
		s := open(t, t.TempDir())
		for range 20 {
			old := create(t, s, latestOf("old", "l"))[0]
			require.NoError(t, s.Flush())
			_, err := s.Delete(t.Context(), old.ID)
			require.NoError(t, err)
			flushed := make(chan error, 1)
			require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
				require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{latestOf("new", "l")}))
				go func() { flushed <- s.Flush() }()
				require.Eventually(t, func() bool { return s.MidFlush(old.ID) }, 30*time.Second, time.Millisecond)
				return nil
			}))
			require.NoError(t, <-flushed)
			audit(t, s)
			require.Equal(t, []string{"new"}, names(t, s))
		}
	})
}

func TestAttach(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	db := openDB(t, path, nil)
	attach := func() *bolt.Store {
		s, err := bolt.Attach(db, filepath.Join(dir, "outbox"), quiet)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		audit(t, s)
		return s
	}
	s := attach()
	tx, err := db.Begin(true)
	require.NoError(t, err)
	b, err := tx.CreateBucket([]byte("orders"))
	require.NoError(t, err)
	require.NoError(t, b.Put([]byte("7"), []byte("seven")))
	require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(7, 1)))
	require.Empty(t, names(t, s), "not before the commit")
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"n000007"}, names(t, s))
	create(t, s, tasks(8, 1)...)
	audit(t, s)
	require.NoError(t, s.Close())
	require.NoError(t, db.Close(), "the application closes its database")

	db = openDB(t, path, nil)
	s = attach()
	require.Equal(t, []string{"n000007", "n000008"}, names(t, s))
	require.NoFileExists(t, filepath.Join(dir, "outbox", "outbox.db"))
	_, err = bolt.Attach(db, filepath.Join(dir, "outbox"), quiet)
	require.ErrorIs(t, err, outbox.ErrLocked)
}

func TestAttach_Refused(t *testing.T) {
	dir := t.TempDir()
	_, err := bolt.Attach(nil, dir, quiet)
	require.ErrorIs(t, err, outbox.ErrInvalid)

	unsynced := openDB(t, filepath.Join(dir, "unsynced.db"), &bbolt.Options{NoSync: true})
	_, err = bolt.Attach(unsynced, dir, quiet)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, "NoSync")

	require.NoError(t, unsynced.Close())
	readOnly := openDB(t, filepath.Join(dir, "unsynced.db"), &bbolt.Options{ReadOnly: true})
	_, err = bolt.Attach(readOnly, dir, quiet)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, "read-only")
}

// What is older than the holder of its LatestOnly key is refused in a transaction too,
// whether memory, the database or the call has the holder.
func TestStore_Tx_OlderThanTheLatest(t *testing.T) {
	s := open(t, t.TempDir())
	one := func(id outbox.ID) outbox.Task {
		return outbox.Task{Event: outbox.Event{ID: id, Name: "l"}, LatestOnly: "l"}
	}
	held := create(t, s, one(outbox.ID{}))[0]
	var past outbox.ID
	require.NoError(t, past.SetTime(held.ID.Time()-1000))
	try := func(list ...outbox.Task) error {
		return s.Update(t.Context(), func(tx *bbolt.Tx) error { return s.Create(bolt.WithTx(t.Context(), tx), list) })
	}
	require.ErrorIs(t, try(one(past)), outbox.ErrDuplicate)
	require.NoError(t, s.Flush())
	require.ErrorIs(t, try(one(past)), outbox.ErrDuplicate)
	done(t, s, claim(t, s, 1)...)
	require.ErrorIs(t, try(one(outbox.ID{}), one(past)), outbox.ErrDuplicate)
	require.NoError(t, try(one(past)))
	require.NoError(t, try(one(outbox.ID{})), "newer")
	require.Len(t, claim(t, s, 2), 1)
}
