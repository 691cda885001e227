package wal_test

import (
	"strings"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

func TestTrim(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	for i := range 12 {
		appendAll(t, l, big(i, 25000)) // two to a segment
	}
	segments := l.Stats().Segments
	require.Equal(t, 6, segments)

	require.NoError(t, l.Trim(0))
	require.NoError(t, l.Trim(2))
	require.EqualValues(t, 1, l.First(), "the first segment still has record 2")
	require.NoError(t, l.Trim(3))
	require.EqualValues(t, 3, l.First())
	require.Equal(t, 1, l.Stats().Spares)
	require.NoError(t, l.Trim(8))
	require.EqualValues(t, 7, l.First())
	require.Equal(t, 2, l.Stats().Spares, "the default; more are removed")
	require.NoError(t, l.Trim(1000))
	require.EqualValues(t, 11, l.First(), "the newest segment stays")
	require.Len(t, disk.Names("wal"), 3)
	require.NoError(t, l.Close())

	l = open(t, disk)
	require.EqualValues(t, 11, l.First())
	require.EqualValues(t, 13, l.Next())
	require.NoError(t, l.Trim(1000))
	require.EqualValues(t, 13, l.Next(), "the newest segment keeps the position, even when all of it was trimmed")
	require.NoError(t, l.Close())
	require.EqualValues(t, 13, open(t, disk).Next())
}

// TestTrim_Recycles appends far more than it keeps: after the first round no file may be made or removed any more.
func TestTrim_Recycles(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	ops, made, files := 0, 0, 0
	for i := range 200 {
		appendAll(t, l, big(i, 15000))
		require.NoError(t, l.Trim(l.Next()))
		if i == 50 {
			ops = disk.Ops()
		}
		files = max(files, len(disk.Names("wal")))
	}
	for n := ops; n < disk.Ops(); n++ {
		if k := disk.Op(n).Kind; k == waltest.Create || k == waltest.Remove {
			made++
		}
	}
	require.Zero(t, made)
	require.LessOrEqual(t, files, 3)
	requireRecords(t, l, l.First(), big(196, 15000), big(197, 15000), big(198, 15000), big(199, 15000))
}

// TestTrim_OldBytes has a recycled segment with valid groups of its earlier use behind its end: they are no torn tail (R21).
func TestTrim_OldBytes(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	for i := range 100 {
		appendAll(t, l, big(i, 1000))
	}
	require.NoError(t, l.Trim(l.Next()))
	require.Equal(t, 1, l.Stats().Spares)
	appendAll(t, l, big(0, 50000)) // into the recycled one
	require.NoError(t, l.Close())
	last := l.Stats().Segments
	require.NotZero(t, disk.Bytes(path(last + 1))[segmentBytes-8000], "old bytes")

	l = open(t, disk)
	require.Zero(t, l.Recovery().TornBytes)
	require.EqualValues(t, 102, l.Next())
}

// TestTrim_Reopen restarts often: each run may add one segment, and Trim takes them away again.
func TestTrim_Reopen(t *testing.T) {
	disk := waltest.New()
	for i := range 20 {
		l := open(t, disk)
		appendAll(t, l, text(i))
		require.NoError(t, l.Trim(l.Next()))
		require.NoError(t, l.Close())
		require.LessOrEqual(t, len(disk.Names("wal")), 4)
	}
	requireRecords(t, open(t, disk), 19, text(18), text(19)) // the older one was written again when the last run began
}

// TestTrim_FileInTheWay has a file that cannot be removed just now: nothing is lost, and Trim can be tried again.
func TestTrim_FileInTheWay(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	for i := range 6 {
		appendAll(t, l, big(i, 30000))
	}
	f, err := disk.Open(path(1))
	require.NoError(t, err)
	require.ErrorContains(t, l.Trim(5), name(1))
	require.EqualValues(t, 1, l.First())
	appendAll(t, l, text(1))
	require.NoError(t, f.Close())
	require.NoError(t, l.Trim(5))
	require.EqualValues(t, 5, l.First())
}

func TestPrepare(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	require.NoError(t, l.Prepare())
	ops := disk.Ops()
	require.NoError(t, l.Prepare())
	require.Equal(t, ops, disk.Ops(), "two are enough")
	require.Equal(t, 2, l.Stats().Spares)
	appendAll(t, l, text(1))
	for n := ops; n < disk.Ops(); n++ {
		require.NotEqual(t, waltest.Create, disk.Op(n).Kind, "Append uses the spare")
	}
	require.Equal(t, 1, l.Stats().Spares)
}

// TestOpen_Leftovers has spares that are too many, unfinished or of another size.
func TestOpen_Leftovers(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	require.NoError(t, l.Close())
	for _, n := range []string{"0000000000000003", "0000000000000004", "0000000000000007"} {
		disk.SetBytes("wal/"+n+".spare", make([]byte, segmentBytes))
	}
	disk.SetBytes("wal/0000000000000005.spare", make([]byte, segmentBytes-512))
	disk.SetBytes("wal/0000000000000009.tmp", make([]byte, segmentBytes))
	disk.SetBytes("wal/notes.txt", []byte("not ours"))
	disk.SetBytes("wal/1.wal", []byte("not ours either"))

	l = open(t, disk)
	require.Equal(t, []string{name(1), "0000000000000003.spare", "0000000000000004.spare", "1.wal", "notes.txt"},
		disk.Names("wal"))
	require.Equal(t, 2, l.Stats().Spares)
	appendAll(t, l, text(2))
	require.NoError(t, l.Close())

	opts := options(disk)
	opts.SegmentBytes *= 2
	l = openWith(t, opts)
	require.Zero(t, l.Stats().Spares, "of the old size")
	appendAll(t, l, text(3))
	require.NoError(t, l.Trim(l.Next()))
	require.Zero(t, l.Stats().Spares)
	requireRecords(t, l, 2, text(2), text(3))
}

func TestOptions_SegmentBytes(t *testing.T) {
	for asked, want := range map[int64]int{-1: 4 << 20, 0: 4 << 20, 1: 64 << 10, 100_000: 25 * 4096, 4096 * 30: 4096 * 30} {
		disk := waltest.New()
		l := openWith(t, wal.Options{FS: disk, SegmentBytes: asked})
		appendAll(t, l, text(1))
		require.Len(t, disk.Bytes(path(1)), want)
		require.True(t, strings.HasSuffix(disk.Names("wal")[0], ".wal"))
	}
}
