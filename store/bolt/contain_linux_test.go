package bolt_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// A page that refers to memory behind the end of the file is a fault when it is read.
// In the store's own reading that is ErrCorrupt; in the application's it is a panic
// that it may recover from; it never ends the program. On Windows the file is as long
// as its map, so there the same bytes are zeros.
func TestContain_MemoryFault(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("with addresses of 32 bits bbolt finds such a length out of bounds by itself")
	}
	dir := t.TempDir()
	s, err := bolt.Open(dir, quiet)
	require.NoError(t, err)
	marker := bytes.Repeat([]byte("marker"), 100)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("application"))
		if err != nil {
			return err
		}
		for i := range 40 {
			if err := b.Put([]byte{byte(i)}, marker); err != nil {
				return err
			}
		}
		return nil
	}))
	create(t, s, tasks(0, 60)...)
	require.NoError(t, s.Close())

	// Every last value of a leaf page becomes a quarter of a GiB long.
	path := filepath.Join(dir, "outbox.db")
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	size, used := boltPages(t, file)
	for n := 2; n < used; n++ {
		page := file[n*size:]
		count := int(binary.NativeEndian.Uint16(page[10:]))
		if binary.NativeEndian.Uint16(page[8:]) == 2 && count > 3 && bytes.Count(page[:size], []byte("marker"))+bytes.Count(page[:size], []byte("n0000")) > 3 {
			binary.NativeEndian.PutUint32(page[16*count+12:], 256<<20)
		}
	}
	require.NoError(t, os.WriteFile(path, file, 0o600))

	_, err = bolt.Open(dir, quiet)
	require.ErrorIs(t, err, outbox.ErrCorrupt)
	s, err = bolt.Open(dir, quiet, bolt.WithGuard(1))
	require.NoError(t, err)
	func() {
		defer func() {
			fault, ok := recover().(interface {
				runtime.Error
				Addr() uintptr
			})
			require.True(t, ok)
			require.NotZero(t, fault.Addr())
		}()
		_ = s.Update(t.Context(), func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("application")).ForEach(func(_, v []byte) error {
				bytes.Count(v, []byte("x"))
				return nil
			})
		})
		require.Fail(t, "no fault")
	}()
	_, err = s.Claim(t.Context(), outbox.ClaimRequest{Max: 1000})
	_, auditErr := s.Audit(t.Context())
	require.ErrorIs(t, auditErr, outbox.ErrCorrupt, "and claim: %v", err)
	inTime(t, func() { _ = s.Close() })
}
