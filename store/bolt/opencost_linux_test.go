//go:build amd64 || arm64

package bolt_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// cached maps a file and says how many of its pages are in the page cache.
func cached(t *testing.T, f *os.File) (n, of int) {
	t.Helper()
	info, err := f.Stat()
	require.NoError(t, err)
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	require.NoError(t, err)
	defer syscall.Munmap(data)
	in := make([]byte, (len(data)+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&in[0])))
	require.Zero(t, errno)
	for _, b := range in {
		n += int(b & 1)
	}
	return n, len(in)
}

// forget has the system drop a file from the page cache.
func forget(t *testing.T, f *os.File) {
	t.Helper()
	require.NoError(t, f.Sync())
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	_, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0)
	require.Zero(t, errno)
}

// Opening reads the same few pages of the database whether 1,000 tasks wait in it or
// 100,000: those are the pages in memory after an open from a cold cache. What the
// guard looks at is bounded, but a small database has less of it.
func TestOpen_ReadsFewPages(t *testing.T) {
	var read [2]int
	for i, n := range [...]int{fewTasks, manyTasks} {
		s, dir := crowded(t, n)
		require.NoError(t, s.Close())
		f, err := os.Open(filepath.Join(dir, "outbox.db"))
		require.NoError(t, err)
		defer f.Close()
		forget(t, f)
		if in, of := cached(t, f); in > of/100 {
			t.Skipf("the file system keeps %d of %d pages in memory", in, of)
		}
		again := open(t, dir)
		in, of := cached(t, f)
		t.Logf("%d waiting: opening has read %d of %d pages", n, in, of)
		read[i] = in
		require.NoError(t, again.Close())
	}
	require.Less(t, read[1], read[0]+500)
}
