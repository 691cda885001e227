package wal_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// fullWithOneSpare returns a disk with no room but for what the log has: two records in one segment, and one spare.
func fullWithOneSpare(t *testing.T) *waltest.FS {
	t.Helper()
	disk := waltest.New()
	l := open(t, disk)
	require.NoError(t, l.Prepare())
	appendAll(t, l, text(1), big(2, 10000))
	disk.SetFree(0)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	require.Equal(t, 1, l.Stats().Spares)
	require.NoError(t, l.Close())
	return disk
}

func writeAndSync(t *testing.T, l *wal.Log, record []byte) {
	t.Helper()
	_, err := l.Write(record)
	require.NoError(t, err)
	require.NoError(t, l.Sync(ctx))
}

// TestFull_RestartsCostNothing: on a full device the last spare takes the place of the newest segment, whose blocks make
// the next spare. However often the log is opened, there is one to write to (P9).
func TestFull_RestartsCostNothing(t *testing.T) {
	disk := fullWithOneSpare(t)
	want := [][]byte{text(1), big(2, 10000)}
	for n := range 20 {
		l := open(t, disk)
		require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
		_, err := l.Append(ctx, text(0))
		require.ErrorIs(t, err, wal.ErrNoSpace)
		want = append(want, text(n))
		writeAndSync(t, l, text(n))
		disk.SetFree(segmentBytes) // what the old file had; this file system does not count it
		require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace, "two are wanted")
		disk.SetFree(0)
		require.Equal(t, 1, l.Stats().Segments)
		require.Equal(t, 1, l.Stats().Spares)
		requireRecords(t, l, 1, want...)
		disk.Kill()
	}
}

// TestFull_CrashWhileReplacing crashes at every operation of a segment taking another's place.
func TestFull_CrashWhileReplacing(t *testing.T) {
	disk := fullWithOneSpare(t)
	before := disk.Ops()
	l := open(t, disk)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	writeAndSync(t, l, text(3))
	writeAndSync(t, l, text(4))
	for n := before; n <= disk.Ops(); n++ {
		for seed := range seeds(n, 4, 40) {
			after := open(t, disk.Crash(n, seed))
			records, err := replay(after, 0)
			require.NoError(t, err)
			require.Equal(t, string(text(1)), records[1], nextOp(disk, n))
			require.Equal(t, string(big(2, 10000)), records[2], nextOp(disk, n))
			if n == disk.Ops() {
				require.Equal(t, string(text(3)), records[3])
				require.Equal(t, string(text(4)), records[4])
			}
			writeAndSync(t, after, text(5))
			require.NoError(t, after.Close())
		}
	}
}

// TestFull_BurstLeavesReserve: records that come faster than Prepare is called leave a segment to Write all the same.
func TestFull_BurstLeavesReserve(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	require.NoError(t, l.Prepare())
	disk.SetFree(segmentBytes)
	var err error
	for n := 0; err == nil; n++ {
		_, err = l.Append(ctx, big(n, 20000))
	}
	require.ErrorIs(t, err, wal.ErrNoSpace)
	for n := range 3 {
		writeAndSync(t, l, big(n, 10000))
	}
}

// TestFull_SmallSpare: the last of a device, too little for a segment, takes a few outcomes when there is no spare at all.
func TestFull_SmallSpare(t *testing.T) {
	disk := fullWithOneSpare(t)
	names := disk.Names("wal")
	spare := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, ".spare") })
	require.NoError(t, disk.Remove("wal/"+names[spare]))
	disk.SetFree(40 << 10)
	l := open(t, disk)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	require.Zero(t, l.Stats().Spares)
	for n := range 3 {
		writeAndSync(t, l, big(n, 5000))
	}
	_, err := l.Append(ctx, text(0))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	require.NoError(t, l.Close())
	records, err := replay(open(t, disk.Crash(disk.Ops(), 0)), 3)
	require.NoError(t, err)
	require.Len(t, records, 3)
}
