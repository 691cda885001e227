package bolt_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// metaOf reads what an older program looks at first: the database's version, and its state,
// which format 3 has made longer.
func metaOf(t *testing.T, dir string) (version uint32, state int) {
	t.Helper()
	db := openDB(t, filepath.Join(dir, "outbox.db"), &bbolt.Options{ReadOnly: true})
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("goutbox")).Bucket([]byte("meta"))
		version, state = binary.LittleEndian.Uint32(meta.Get([]byte("format"))), len(meta.Get([]byte("state")))
		return nil
	}))
	require.NoError(t, db.Close())
	return version, state
}

// enlarged puts so much of an application's own into the database of a closed store that it
// just fits into the bound that is returned.
func enlarged(t *testing.T, dir string) (bound int64) {
	t.Helper()
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("mine"))
		require.NoError(t, err)
		return b.Put([]byte("large"), make([]byte, 1100<<10))
	}))
	require.NoError(t, db.Close())
	shrink(t, filepath.Join(dir, "outbox.db"))
	info, err := os.Stat(filepath.Join(dir, "outbox.db"))
	require.NoError(t, err)
	return info.Size()
}

// Where there was no room to upgrade a store when it was opened, nothing is written in the
// new way by a database that says that it is old: older programs would take it for a damaged
// one, and not refuse it with ErrVersion (R46).
func TestGolden_NoRoomToUpgrade(t *testing.T) {
	for _, store := range []string{"testdata/v1", "testdata/v2"} {
		t.Run(store, func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, store, dir)
			bound := enlarged(t, dir)
			version, state := metaOf(t, dir)
			require.Less(t, version, uint32(4))
			s := open(t, dir, bolt.WithMaxDatabaseBytes(bound), bolt.WithSegmentBytes(64<<10))
			require.ErrorIs(t, s.Create(t.Context(), tasks(0, 1)), outbox.ErrFull)
			crashed := t.TempDir()
			s.Freeze(func() { copyDir(t, dir, crashed) })
			version, now := metaOf(t, crashed)
			require.Greater(t, now, state, "it has taken over a position of the log")
			require.EqualValues(t, 4, version)
		})
	}
}

// Nor is anything accepted, which would be logged in the new way, before it is upgraded.
func TestGolden_UpgradeLater(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Close())
	bound := enlarged(t, dir)
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	db.AllocSize = 0
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("goutbox")).Bucket([]byte("meta"))
		format := binary.LittleEndian.AppendUint32(nil, 2)
		format = append(format, meta.Get([]byte("format"))[4:20]...)
		sum := crc32.Checksum(format, crc32.MakeTable(crc32.Castagnoli))
		return meta.Put([]byte("format"), binary.LittleEndian.AppendUint32(format, sum))
	}))
	require.NoError(t, db.Close())
	shrink(t, filepath.Join(dir, "outbox.db"))

	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, bolt.WithMaxDatabaseBytes(bound), bolt.WithSegmentBytes(64<<10))
		require.ErrorIs(t, s.Create(t.Context(), tasks(0, 1)), outbox.ErrFull)
		require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("mine")) }))
		time.Sleep(2 * time.Second) // the background looks for room every second
		create(t, s, tasks(0, 1)...)
		crashed := t.TempDir()
		s.Freeze(func() { copyDir(t, dir, crashed) })
		version, _ := metaOf(t, crashed)
		require.EqualValues(t, 4, version)
	})
}
