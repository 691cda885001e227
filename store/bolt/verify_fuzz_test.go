package bolt_test

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/goutbox/goutbox/store/bolt"
)

// FuzzVerifyDatabase has Verify read a database that was damaged on purpose: the input
// is a number of changes to the golden store, each an offset of three bytes, a length
// of one, and that many bytes. The checksums of the meta pages are made right again, so
// that what is behind them is reached; an odd number at the end cuts the file.
func FuzzVerifyDatabase(f *testing.F) {
	origin, err := os.ReadFile(filepath.Join(golden, "outbox.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 1})
	f.Add([]byte("0\x00\x00RRRRRRRRRRRRRRRRRRRRR\x04\x00(\b0")) // a high-water mark beyond all memory
	dir := f.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		file := bytes.Clone(origin)
		rest := changes
		for len(rest) > 4 {
			at := (int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16) % len(file)
			n := min(int(rest[3]), len(rest)-4)
			copy(file[at:], rest[4:4+n])
			rest = rest[4+n:]
		}
		for _, at := range []int{16, 4096 + 16} {
			sum := fnv.New64a()
			sum.Write(file[at : at+56])
			binary.NativeEndian.PutUint64(file[at+56:], sum.Sum64())
		}
		if len(rest) == 2 {
			file = file[:int(binary.LittleEndian.Uint16(rest))%len(file)]
		}
		if err := os.WriteFile(filepath.Join(dir, "outbox.db"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() { // while it fuzzes, testing takes a panic for a failure, goes on, and finds the file locked
			if p := recover(); p != nil {
				t.Fatalf("%v\n%s", p, debug.Stack())
			}
		}()
		r, err := bolt.Verify(dir, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(file, origin) && !r.OK() {
			t.Fatal(r.String())
		}
		_ = r.String()
	})
}
