package bolt_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// A panic of the application's own function goes through Update unchanged, and leaves
// a store that works.
func TestUpdate_PanicsOfTheApplication(t *testing.T) {
	s := open(t, t.TempDir())
	cause := errors.New("the application's")
	require.PanicsWithValue(t, cause, func() {
		_ = s.Update(t.Context(), func(tx *bbolt.Tx) error {
			require.NoError(t, s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 3)))
			panic(cause)
		})
	})
	require.Empty(t, names(t, s), "it was rolled back")
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		return s.Create(bolt.WithTx(t.Context(), tx), tasks(0, 3))
	}))
	require.Len(t, names(t, s), 3)
}

// inTime fails the test if f does not return.
func inTime(t *testing.T, f func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); f() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		require.Fail(t, "it does not return")
	}
}

// When bbolt panics and keeps its writer lock, nobody waits for that lock, Close neither,
// and the store can be opened again.
func TestJam(t *testing.T) {
	dir := t.TempDir()
	s, err := bolt.Open(dir, quiet)
	require.NoError(t, err)
	create(t, s, tasks(0, 3)...)
	require.ErrorIs(t, s.Jam(), outbox.ErrPoisoned)
	inTime(t, func() {
		requirePoisonedUpdate(t, s)
		require.ErrorIs(t, s.Flush(), outbox.ErrPoisoned)
		require.ErrorIs(t, s.Close(), outbox.ErrCorrupt)
	})
	require.Len(t, names(t, open(t, dir)), 3)
}

func requirePoisonedUpdate(t *testing.T, s *bolt.Store) {
	t.Helper()
	err := s.Update(t.Context(), func(*bbolt.Tx) error { panic("must not be called") })
	require.ErrorIs(t, err, outbox.ErrPoisoned)
}

// A file that was cut short would end the program with SIGBUS as soon as bbolt reads
// what is missing; however few pages are looked at, it is refused.
func TestOpen_CutShort(t *testing.T) {
	v := newVictim(t, false)
	for _, n := range []int{v.pages - 1, v.pages / 2} {
		dir := t.TempDir()
		copyDir(t, v.dir, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), v.file[:n*v.size], 0o600))
		_, err := bolt.Open(dir, quiet, bolt.WithGuard(0))
		require.ErrorIs(t, err, outbox.ErrCorrupt)
		require.ErrorContains(t, err, "cut short")
	}
}

// A page that is both free and in use would be given to somebody else: bbolt does not
// see that.
func TestOpen_FreeAndInUse(t *testing.T) {
	v := newVictim(t, false)
	newest, most := 0, uint64(0)
	for n := range 2 {
		if tx := binary.NativeEndian.Uint64(v.file[n*v.size+16+48:]); tx > most {
			newest, most = n, tx
		}
	}
	meta := v.file[newest*v.size+16:]
	root, list := binary.NativeEndian.Uint64(meta[16:]), binary.NativeEndian.Uint64(meta[32:])
	page := v.file[int(list)*v.size:]
	count := binary.NativeEndian.Uint16(page[10:])
	require.NotZero(t, count)
	binary.NativeEndian.PutUint16(page[10:], 1)
	binary.NativeEndian.PutUint64(page[16:], root)
	dir := t.TempDir()
	copyDir(t, v.dir, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), v.file, 0o600))
	wantRefused(t, dir, outbox.ErrCorrupt, "both free and in use", "outbox.db")
	r := verify(t, dir)
	require.False(t, r.OK())
}

// R29: what one invalid meta page means. As long as the log goes back to the
// checkpoint that the older one knows, nothing is lost.
func TestOpen_MetaPage(t *testing.T) {
	made := func(t *testing.T, recycled bool) (dir string, newest int) {
		dir = t.TempDir()
		origin := t.TempDir()
		s := open(t, origin, bolt.WithSegmentBytes(64<<10))
		create(t, s, tasks(0, 10)...)
		require.NoError(t, s.Flush())
		for i := 0; recycled && i < 30; i++ { // which the next checkpoint takes out of the log
			large := tasks(100+i, 1)
			large[0].Payload = make([]byte, 10_000)
			create(t, s, large...)
		}
		create(t, s, tasks(10, 10)...)
		require.NoError(t, s.Flush())
		s.Freeze(func() { copyDir(t, origin, dir) })
		file, err := os.ReadFile(filepath.Join(dir, "outbox.db"))
		require.NoError(t, err)
		tx := func(n int) uint64 { return binary.NativeEndian.Uint64(file[n*os.Getpagesize()+16+48:]) }
		if tx(1) > tx(0) {
			newest = 1
		}
		return dir, newest
	}
	zero := func(t *testing.T, dir string, pages ...int) {
		f, err := os.OpenFile(filepath.Join(dir, "outbox.db"), os.O_RDWR, 0)
		require.NoError(t, err)
		for _, n := range pages {
			_, err := f.WriteAt(make([]byte, os.Getpagesize()), int64(n*os.Getpagesize()))
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
	}
	for _, newer := range []bool{false, true} {
		dir, newest := made(t, false)
		page := newest
		if !newer {
			page = 1 - newest
		}
		zero(t, dir, page)
		r := verify(t, dir)
		require.True(t, r.OK(), r.String())
		require.True(t, r.Findings[0].Note)
		s := open(t, dir)
		require.Len(t, names(t, s), 20)
	}
	dir, newest := made(t, true)
	zero(t, dir, newest)
	r := verify(t, dir)
	require.False(t, r.OK())
	wantRefused(t, dir, outbox.ErrMismatch, "another copy")

	dir, _ = made(t, false)
	before := hashes(t, filepath.Join(dir, "wal"))
	zero(t, dir, 0, 1)
	require.False(t, func() bool { r := verify(t, dir); return r.OK() }())
	wantRefused(t, dir, outbox.ErrCorrupt, "outbox.db", "meta page", "byte")
	require.Equal(t, before, hashes(t, filepath.Join(dir, "wal")))
}

// A device that does not start says what can be done about it.
func TestOpen_Advice(t *testing.T) {
	dir := t.TempDir()
	copyDir(t, golden, dir)
	path := filepath.Join(dir, "outbox.db")
	require.NoError(t, os.Truncate(path, 8192))
	_, err := bolt.Open(dir, quiet)
	require.ErrorIs(t, err, outbox.ErrCorrupt)
	require.ErrorContains(t, err, "bolt.Verify lists all that is wrong there, bolt.Salvage keeps what is intact")
	require.ErrorContains(t, err, dir)
}
