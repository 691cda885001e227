package bolt_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// wantRefused opens a folder that must be refused with sentinel and a text that
// has all of mentions, twice: the first time must not have changed anything.
func wantRefused(t *testing.T, dir string, sentinel error, mentions ...string) {
	t.Helper()
	for range 2 {
		s, err := bolt.Open(dir, quiet)
		if err == nil {
			require.NoError(t, s.Close())
		}
		require.ErrorIs(t, err, sentinel)
		for _, text := range mentions {
			require.ErrorContains(t, err, text)
		}
	}
}

func TestOpen_Folder(t *testing.T) {
	t.Run("is made, with its parents", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b", "c")
		s := open(t, dir)
		create(t, s, tasks(0, 1)...)
		require.FileExists(t, filepath.Join(dir, "outbox.db"))
		require.NoFileExists(t, filepath.Join(dir, "outbox.db.tmp"))
		require.DirExists(t, filepath.Join(dir, "wal"))
	})
	t.Run("is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
		wantRefused(t, file, outbox.ErrInvalid, file, "not a folder")
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, "precious", string(content))
	})
	t.Run("below a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		_, err := bolt.Open(filepath.Join(file, "store"), quiet)
		require.ErrorContains(t, err, file)
	})
}

func TestOpen_Locked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	begin := time.Now()
	_, err := bolt.Open(dir, quiet)
	require.ErrorIs(t, err, outbox.ErrLocked)
	require.ErrorContains(t, err, dir)
	require.Less(t, time.Since(begin), 5*time.Second, "R7: it must not hang")
	create(t, s, tasks(0, 1)...) // the first is none the worse
	require.NoError(t, s.Close())
	require.Equal(t, []string{"n000000"}, names(t, open(t, dir)))
}

func TestOpen_DatabaseInUse(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, open(t, dir).Close())
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	wantRefused(t, dir, outbox.ErrLocked, "outbox.db")
	require.NoError(t, db.Close())
	open(t, dir)
}

// A crash while the database was being made leaves a file under another name (R3).
func TestOpen_HalfMadeDatabase(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db.tmp"), []byte("half"), 0o600))
	s := open(t, dir)
	create(t, s, tasks(0, 1)...)
	require.NoFileExists(t, filepath.Join(dir, "outbox.db.tmp"))
}

// Files that do not belong together are refused, never merged and never made
// empty (P11).
func TestOpen_Mismatch(t *testing.T) {
	// made returns a folder with a closed store that has seen ten tasks, one of
	// which still waits.
	made := func(t *testing.T) string {
		dir := t.TempDir()
		s := open(t, dir)
		create(t, s, tasks(0, 10)...)
		done(t, s, claim(t, s, 9)...)
		require.NoError(t, s.Close())
		return dir
	}
	t.Run("database missing", func(t *testing.T) {
		dir := made(t)
		require.NoError(t, os.Remove(filepath.Join(dir, "outbox.db")))
		wantRefused(t, dir, outbox.ErrMismatch, "outbox.db", "missing")
		require.NoFileExists(t, filepath.Join(dir, "outbox.db"))
	})
	t.Run("log missing", func(t *testing.T) {
		dir := made(t)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
		wantRefused(t, dir, outbox.ErrMismatch, "wal")
	})
	t.Run("log of another store", func(t *testing.T) {
		dir, other := made(t), made(t)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
		copyDir(t, filepath.Join(other, "wal"), filepath.Join(dir, "wal"))
		wantRefused(t, dir, outbox.ErrMismatch, "wal")
	})
	t.Run("older log", func(t *testing.T) {
		dir, old := made(t), t.TempDir()
		copyDir(t, filepath.Join(dir, "wal"), old)
		s := open(t, dir)
		create(t, s, tasks(10, 10)...)
		require.NoError(t, s.Close())
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
		copyDir(t, old, filepath.Join(dir, "wal"))
		wantRefused(t, dir, outbox.ErrMismatch, "older copy")
	})
	t.Run("older database", func(t *testing.T) {
		dir := made(t)
		db := filepath.Join(dir, "outbox.db")
		old, err := os.ReadFile(db)
		require.NoError(t, err)
		s := open(t, dir, bolt.WithSegmentBytes(64<<10))
		for i := range 20 { // enough to recycle the log that the old database would need
			create(t, s, tasks(100*i, 100)...)
			done(t, s, claim(t, s, 1000)...)
		}
		require.NoError(t, s.Flush())
		require.NoError(t, s.Close())
		require.NoError(t, os.WriteFile(db, old, 0o600))
		wantRefused(t, dir, outbox.ErrMismatch, "copy")
	})
}

func TestOpen_Version(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, open(t, dir).Close())
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("goutbox")).Bucket([]byte("meta"))
		v := append([]byte(nil), meta.Get([]byte("format"))...)
		binary.LittleEndian.PutUint32(v, 99)
		crc := crc32.Checksum(v[:len(v)-4], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(v[len(v)-4:], crc)
		return meta.Put([]byte("format"), v)
	}))
	require.NoError(t, db.Close())
	wantRefused(t, dir, outbox.ErrVersion, "outbox.db", "version 99")
}

func TestOpen_NotADatabase(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), make([]byte, 64<<10), 0o600))
	wantRefused(t, dir, outbox.ErrCorrupt, "outbox.db")
	info, err := os.Stat(filepath.Join(dir, "outbox.db"))
	require.NoError(t, err)
	require.EqualValues(t, 64<<10, info.Size(), "the file is left as it is")
}

func TestStore_Close(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, tasks(0, 3)...)
	done(t, s, claim(t, s, 1)...)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice does nothing")
	require.ErrorIs(t, s.Create(t.Context(), tasks(0, 1)), outbox.ErrClosed)

	// P3: a clean close leaves nothing to be delivered twice.
	again := open(t, dir)
	require.Equal(t, []string{"n000001", "n000002"}, names(t, again))
	require.EqualValues(t, 1, stats(t, again).Delivered)
}
