package wal_test

import (
	"strings"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// noSpare takes the spares of a log that is closed, and all room, away.
func noSpare(t *testing.T, disk *waltest.FS) {
	t.Helper()
	for _, name := range disk.Names("wal") {
		if strings.HasSuffix(name, ".spare") {
			require.NoError(t, disk.Remove("wal/"+name))
		}
	}
	require.NoError(t, disk.SyncDir("wal"))
	disk.SetFree(0)
}

// TestFull_NoSpare: on a full device without a spare the log goes on in the segment that it has, over many restarts and up
// to its end. Only what leads to less may use it (P9).
func TestFull_NoSpare(t *testing.T) {
	disk := fullWithOneSpare(t)
	noSpare(t, disk)
	want := [][]byte{text(1), big(2, 10000)}
	for n := range 4 {
		l := open(t, disk)
		require.Less(t, l.Synced(), wal.Position(len(want)))
		require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
		_, err := l.Append(ctx, text(0))
		require.ErrorIs(t, err, wal.ErrNoSpace)
		if n == 0 {
			require.NoError(t, l.Sync(ctx), "what Open found is made sure of")
			require.EqualValues(t, 2, l.Synced())
		}
		want = append(want, big(n, 10000))
		writeAndSync(t, l, big(n, 10000))
		require.EqualValues(t, len(want), l.Synced())
		requireRecords(t, l, 1, want...)
		disk.Kill()
	}
	l := open(t, disk)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	_, err := l.WriteLeaving(0, big(9, 20000))
	require.ErrorIs(t, err, wal.ErrNoSpace, "the segment ends here")
	disk.SetFree(-1)
	require.NoError(t, l.Prepare())
	appendAll(t, l, big(9, 20000))
	requireRecords(t, l, 1, append(want, big(9, 20000))...)
	require.NoError(t, l.Close())
}

// TestFull_NoSpareForQueue: records of Queue that come before the log knows of the full device do not use what is left.
func TestFull_NoSpareForQueue(t *testing.T) {
	disk := fullWithOneSpare(t)
	noSpare(t, disk)
	l := open(t, disk)
	_, err := l.Append(ctx, text(3))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	require.EqualValues(t, 2, l.Synced())
	writeAndSync(t, l, text(4))
	records, err := replay(l, 1)
	require.NoError(t, err)
	require.Equal(t, map[wal.Position]string{1: string(text(1)), 2: string(big(2, 10000)), 4: string(text(4))}, records)
}

// TestFull_CrashWhileResuming crashes while records are written without a segment to spare, then at every operation of the
// log going on in the segment that it finds, with the torn end of the first crash in it.
func TestFull_CrashWhileResuming(t *testing.T) {
	disk := fullWithOneSpare(t)
	noSpare(t, disk)
	begin := disk.Ops()
	l := open(t, disk)
	writeAndSync(t, l, big(3, 9000))
	writeAndSync(t, l, big(4, 9000))
	torn := 0
	for n := begin; n <= disk.Ops(); n++ {
		for seed := range seeds(n, 4, 20) {
			first := disk.Crash(n, seed)
			first.SetFree(0)
			again := first.Ops()
			l := open(t, first)
			if l.Recovery().TornBytes > 0 {
				torn++
			}
			had := l.Next()
			writeAndSync(t, l, text(5))
			writeAndSync(t, l, text(6))
			for m := again; m <= first.Ops(); m++ {
				second := first.Crash(m, seed)
				second.SetFree(0)
				l := open(t, second)
				records, err := replay(l, 0)
				require.NoError(t, err)
				require.Equal(t, string(text(1)), records[1], nextOp(first, m))
				require.Equal(t, string(big(2, 10000)), records[2], nextOp(first, m))
				for p := wal.Position(3); p < had; p++ {
					require.Equal(t, string(big(int(p), 9000)), records[p], nextOp(first, m))
				}
				if m == first.Ops() {
					require.Equal(t, string(text(5)), records[had])
					require.Equal(t, string(text(6)), records[had+1])
					require.Zero(t, l.Recovery().TornBytes, "what was torn has gone")
				}
				writeAndSync(t, l, text(7))
			}
		}
	}
	require.Positive(t, torn)
}

// TestFull_LastSpareStays: that the device is full may be found out between a record's being queued and its being written.
// It does not get the last spare then.
func TestFull_LastSpareStays(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	require.NoError(t, l.Prepare())
	appendAll(t, l, big(1, 40000))
	require.Equal(t, 1, l.Stats().Spares)
	last, err := l.Queue(big(2, 40000))
	require.NoError(t, err)
	disk.SetFree(0)
	require.ErrorIs(t, l.Prepare(), wal.ErrNoSpace)
	require.ErrorIs(t, l.Wait(ctx, last), wal.ErrNoSpace)
	require.Equal(t, 1, l.Stats().Spares)
	writeAndSync(t, l, big(3, 40000))
	require.NoError(t, l.Close())
}
