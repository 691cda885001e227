package waltest_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// fill returns n bytes of one kind.
func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// write makes a file, or writes over one, and closes it.
func write(t *testing.T, disk *waltest.FS, name string, data []byte, sync bool) {
	t.Helper()
	open := disk.Create
	if disk.Bytes(name) != nil {
		open = disk.Open
	}
	f, err := open(name)
	require.NoError(t, err)
	_, err = f.WriteAt(data, 0)
	require.NoError(t, err)
	if sync {
		require.NoError(t, f.Sync())
	}
	require.NoError(t, f.Close())
}

func TestCrash_Data(t *testing.T) {
	disk := waltest.New()
	write(t, disk, "a", fill(2048, 'o'), true)
	require.NoError(t, disk.SyncDir("."))
	write(t, disk, "a", fill(4096, 'n'), false)
	n := disk.Ops()

	require.Equal(t, fill(2048, 'o'), disk.Crash(n, 0).Bytes("a"), "lost")
	require.Equal(t, fill(4096, 'n'), disk.Crash(n, 1).Bytes("a"), "kept")
	var torn, zeros, garbage, short bool
	for seed := uint64(2); seed < 100; seed++ {
		data := disk.Crash(n, seed).Bytes("a")
		require.Equal(t, data, disk.Crash(n, seed).Bytes("a"), "the same for the same seed")
		short = short || len(data) < 4096
		var olds, news int
		for i := 0; i+512 <= len(data); i += 512 {
			switch sector := data[i : i+512]; {
			case bytes.Equal(sector, fill(512, 'n')):
				news++
			case i < 2048:
				require.Equal(t, fill(512, 'o'), sector, "what was synced is there, old or new")
				olds++
			case bytes.Equal(sector, make([]byte, 512)):
				zeros = true
			default:
				garbage = true
			}
		}
		torn = torn || olds > 0 && news > 0
	}
	require.True(t, torn && zeros && garbage && short)
}

func TestCrash_Entries(t *testing.T) {
	disk := waltest.New()
	require.NoError(t, disk.Mkdir("d"))
	require.NoError(t, disk.SyncDir("."))
	write(t, disk, "d/a", []byte("a"), true)
	require.NoError(t, disk.SyncDir("d"))
	require.NoError(t, disk.Rename("d/a", "d/b"))
	write(t, disk, "d/c", []byte("c"), true)

	require.Equal(t, []string{"a"}, disk.Crash(disk.Ops(), 0).Names("d"))
	require.Equal(t, []string{"b", "c"}, disk.Crash(disk.Ops(), 1).Names("d"))
	seen := map[string]bool{}
	for seed := uint64(2); seed < 50; seed++ {
		crashed := disk.Crash(disk.Ops(), seed)
		names := crashed.Names("d")
		seen[names[0]] = true
		seen[names[len(names)-1]] = true
		require.True(t, crashed.Bytes("d/a") == nil != (crashed.Bytes("d/b") == nil), "a rename is never half done")
	}
	require.Len(t, seen, 3)

	require.NoError(t, disk.Mkdir("e"))
	write(t, disk, "e/a", []byte("a"), true)
	require.NoError(t, disk.SyncDir("e"))
	require.Nil(t, disk.Crash(disk.Ops(), 0).Names("e"), "the folder itself was never synced")
	require.Equal(t, []string{"a"}, disk.Crash(disk.Ops(), 1).Names("e"))
}

func TestCrash_AtAnyOperation(t *testing.T) {
	disk := waltest.New()
	write(t, disk, "a", []byte("one"), true)
	first := disk.Ops()
	write(t, disk, "a", []byte("two"), true)
	require.Equal(t, []byte("two"), disk.Crash(disk.Ops(), 1).Bytes("a"))
	require.Equal(t, []byte("one"), disk.Crash(first, 1).Bytes("a"), "back in time")
	require.Nil(t, disk.Crash(0, 1).Bytes("a"))
	again := disk.Crash(first, 1)
	write(t, again, "a", []byte("xyz"), false)
	require.Equal(t, []byte("one"), again.Crash(again.Ops(), 0).Bytes("a"))
	require.Equal(t, []byte("two"), disk.Bytes("a"), "a crash leaves the original alone")
}

func TestFault_DroppedPages(t *testing.T) {
	disk := waltest.New()
	write(t, disk, "a", []byte("one"), true)
	require.NoError(t, disk.SyncDir("."))
	f, err := disk.Open("a")
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("two"), 0)
	require.NoError(t, err)
	disk.Inject(func(op waltest.Op) *waltest.Fault { return &waltest.Fault{Err: waltest.ErrIO, Drop: true} })
	require.ErrorIs(t, f.Sync(), waltest.ErrIO)
	disk.Inject(nil)
	require.NoError(t, f.Sync())
	require.Equal(t, []byte("two"), disk.Bytes("a"), "it can be read")
	require.Equal(t, []byte("one"), disk.Crash(disk.Ops(), 1).Bytes("a"), "and is not on the disk")
}

func TestFault_Counted(t *testing.T) {
	disk := waltest.New()
	disk.FailOnce(1, waltest.ErrIO)
	f, err := disk.Create("a")
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("one"), 0)
	require.ErrorIs(t, err, waltest.ErrIO)
	require.Empty(t, disk.Bytes("a"))
	_, err = f.WriteAt([]byte("one"), 0)
	require.NoError(t, err)
	disk.FailFrom(disk.Ops(), waltest.ErrFull)
	require.ErrorIs(t, f.Sync(), waltest.ErrFull)
	require.ErrorIs(t, f.Sync(), waltest.ErrFull)
	_, err = f.ReadAt(make([]byte, 3), 0)
	require.NoError(t, err, "reading is not counted")
	require.ErrorIs(t, disk.Op(1).Err, waltest.ErrIO)
	require.Equal(t, "2 write a 3 bytes at 0", disk.Op(2).String())
}

func TestSetFree(t *testing.T) {
	disk := waltest.New()
	disk.SetFree(1000)
	write(t, disk, "a", fill(600, 'a'), true)
	f, err := disk.Create("b")
	require.NoError(t, err)
	n, err := f.WriteAt(fill(600, 'b'), 0)
	require.ErrorIs(t, err, waltest.ErrFull)
	require.Equal(t, 400, n)
	require.Equal(t, fill(400, 'b'), disk.Bytes("b"))
	_, err = f.WriteAt(fill(400, 'c'), 0)
	require.NoError(t, err, "these blocks are there")
	require.NoError(t, disk.Remove("a"))
	_, err = f.WriteAt(fill(600, 'd'), 400)
	require.NoError(t, err)
}

func TestFS_Errors(t *testing.T) {
	disk := waltest.New()
	_, err := disk.Open("a")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = disk.Create("d/a")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = disk.ReadDir("d")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, disk.SyncDir("d"), fs.ErrNotExist)
	require.ErrorIs(t, disk.Remove("a"), fs.ErrNotExist)
	require.ErrorIs(t, disk.Mkdir("d/e"), fs.ErrNotExist)
	require.NoError(t, disk.Mkdir("d"))
	require.ErrorIs(t, disk.Mkdir("d"), fs.ErrExist)
	f, err := disk.Create("a")
	require.NoError(t, err)
	_, err = disk.Create("a")
	require.ErrorIs(t, err, fs.ErrExist)
	require.Error(t, disk.Rename("a", "b"), "it is open")
	disk.Kill()
	require.NoError(t, disk.Rename("a", "b"))
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Sync(), fs.ErrClosed)
	_, err = f.ReadAt(nil, 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = f.WriteAt(nil, 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, f.Close(), fs.ErrClosed)
	var _ wal.File = f
}
