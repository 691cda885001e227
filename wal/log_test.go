package wal_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

func TestLog_RoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	opts := wal.Options{SegmentBytes: segmentBytes, Store: [16]byte{1, 2, 3}}
	var want [][]byte
	for run := range 3 {
		l, err := wal.Open(dir, opts)
		require.NoError(t, err)
		requireRecords(t, l, 1, want...)
		for i := range 20 {
			record := big(100*run+i, 300*i)
			p, err := l.Append(ctx, record)
			require.NoError(t, err)
			want = append(want, record)
			require.EqualValues(t, len(want), p)
		}
		requireRecords(t, l, 1, want...)
		require.Equal(t, wal.Position(len(want)), l.Durable())
		require.Equal(t, wal.Position(len(want)+1), l.Next())
		require.NoError(t, l.Close())
	}
	l, err := wal.Open(dir, opts)
	require.NoError(t, err)
	require.Equal(t, wal.Recovery{Segments: 5, Records: 60, First: 1, Next: 61}, l.Recovery())
	require.NoError(t, l.Close())
}

func TestLog_Empty(t *testing.T) {
	disk := waltest.New()
	for range 3 {
		l := open(t, disk)
		require.EqualValues(t, 1, l.First())
		require.EqualValues(t, 1, l.Next())
		require.EqualValues(t, 0, l.Durable())
		require.NoError(t, l.Sync(ctx))
		require.NoError(t, l.Wait(ctx, 0))
		require.NoError(t, l.Trim(100))
		requireRecords(t, l, 1)
		p, err := l.Append(ctx)
		require.NoError(t, err)
		require.Zero(t, p)
		require.Error(t, l.Wait(ctx, 1), "a record that was never queued")
		require.NoError(t, l.Close())
		require.Empty(t, disk.Names("wal"), "opening must not pile up files")
	}
}

func TestLog_BatchPositions(t *testing.T) {
	l := open(t, waltest.New())
	p, err := l.Append(ctx, texts(1, 3)...)
	require.NoError(t, err)
	require.EqualValues(t, 3, p, "the position of the last record")
	p, err = l.Append(ctx, []byte{}, []byte{})
	require.NoError(t, err)
	require.EqualValues(t, 5, p)
	requireRecords(t, l, 1, append(texts(1, 3), nil, nil)...)
}

func TestLog_QueueCopies(t *testing.T) {
	l := open(t, waltest.New())
	record := text(1)
	p, err := l.Queue(record)
	require.NoError(t, err)
	clear(record)
	require.NoError(t, l.Wait(ctx, p))
	requireRecords(t, l, 1, text(1))
}

func TestLog_TooLarge(t *testing.T) {
	opts := options(waltest.New())
	opts.MaxBatchBytes = 1000
	l := openWith(t, opts)
	_, err := l.Append(ctx, big(1, 997))
	require.ErrorIs(t, err, wal.ErrTooLarge)
	_, err = l.Append(ctx, big(1, 500), big(2, 493))
	require.ErrorIs(t, err, wal.ErrTooLarge)
	require.EqualValues(t, 1, l.Next(), "nothing of it is queued")
	_, err = l.Append(ctx, big(1, 500), big(2, 492))
	require.NoError(t, err)
	_, err = l.Append(ctx, big(3, 996))
	require.NoError(t, err)
	requireRecords(t, l, 1, big(1, 500), big(2, 492), big(3, 996))
}

// TestLog_LargerThanSegment has groups of their own size, and goes back to common segments after them.
func TestLog_LargerThanSegment(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1), big(2, 3*segmentBytes), text(3), big(4, 2<<20), text(5))
	require.Len(t, disk.Bytes(path(1)), segmentBytes)
	require.Greater(t, len(disk.Bytes(path(2))), 3*segmentBytes)
	want := [][]byte{text(1), big(2, 3*segmentBytes), text(3), big(4, 2<<20), text(5)}
	requireRecords(t, l, 1, want...)
	require.NoError(t, l.Close())
	l = open(t, disk)
	requireRecords(t, l, 1, want...)
	appendAll(t, l, text(6))
	require.NoError(t, l.Trim(6))
	require.Equal(t, 1, l.Stats().Spares, "only the common one is kept")
	requireRecords(t, l, l.First(), append(want, text(6))[l.First()-1:]...)
}

func TestLog_SyncCost(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	ops := disk.Ops()
	appendAll(t, l, text(2))
	require.Equal(t, ops+2, disk.Ops(), "one write and one sync")
	require.Equal(t, waltest.Write, disk.Op(ops).Kind)
	require.Equal(t, waltest.Sync, disk.Op(ops+1).Kind)

	for i := range 10 {
		_, err := l.Write(text(i))
		require.NoError(t, err)
	}
	require.Equal(t, ops+2, disk.Ops(), "Write does no I/O")
	require.NotZero(t, l.Stats().Queued)
	require.NoError(t, l.Sync(ctx))
	require.Equal(t, ops+4, disk.Ops(), "all of it with one sync")
	require.NoError(t, l.Sync(ctx))
	require.NoError(t, l.Wait(ctx, 3))
	require.Equal(t, ops+4, disk.Ops(), "nothing to do")

	s := l.Stats()
	require.EqualValues(t, 3, s.Syncs)
	require.EqualValues(t, 3, s.Groups)
	require.EqualValues(t, 12, s.Records)
	require.EqualValues(t, 10, s.LastRecords)
	require.Zero(t, s.Queued)
	require.EqualValues(t, segmentBytes, s.HeldBytes)
}

func TestLog_Allocations(t *testing.T) {
	l, err := wal.Open(t.TempDir(), wal.Options{})
	require.NoError(t, err)
	record := make([]byte, 256)
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := l.Append(ctx, record); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 1.0)
	require.NoError(t, l.Close())
}

func TestLog_OnDurable(t *testing.T) {
	opts := options(waltest.New())
	var seen []wal.Position
	var l *wal.Log
	opts.OnDurable = func(p wal.Position) {
		require.Equal(t, p, l.Durable())
		seen = append(seen, p)
		if p == 3 {
			_, err := l.Queue(text(4)) // allowed, and goes with the next sync
			require.NoError(t, err)
		}
	}
	l = openWith(t, opts)
	_, err := l.Append(ctx, texts(1, 3)...)
	require.NoError(t, err)
	require.Equal(t, []wal.Position{3}, seen, "before the caller returns")
	require.NoError(t, l.Sync(ctx))
	require.NoError(t, l.Sync(ctx))
	require.Equal(t, []wal.Position{3, 4}, seen)
}

func TestLog_Replay(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	var want [][]byte
	for i := range 30 {
		want = append(want, big(i, 9000))
	}
	appendAll(t, l, want...)

	t.Run("begins in the middle", func(t *testing.T) {
		for from := wal.Position(0); from <= 31; from++ {
			got, err := replay(l, from)
			require.NoError(t, err)
			require.Len(t, got, 31-max(1, int(from)))
		}
	})
	t.Run("can be broken off, and leaves no mark", func(t *testing.T) {
		for r, err := range l.Replay(5) {
			require.NoError(t, err)
			require.EqualValues(t, 5, r.Position)
			break
		}
		for range l.Replay(5) {
			func() {
				defer func() { require.NotNil(t, recover()) }()
				for range l.Replay(1) {
					panic("in the loop")
				}
			}()
			break
		}
	})
	t.Run("ends at what was durable when it began", func(t *testing.T) {
		n := 0
		for range l.Replay(1) {
			n++
			appendAll(t, l, text(n))
		}
		require.Equal(t, 30, n)
	})
	t.Run("is not disturbed by Trim", func(t *testing.T) {
		next := wal.Position(8)
		for r, err := range l.Replay(next) {
			require.NoError(t, err)
			require.Equal(t, next, r.Position)
			require.NoError(t, l.Trim(l.Next()))
			require.LessOrEqual(t, l.First(), r.Position)
			appendAll(t, l, big(0, 20000)) // would write over a segment that was freed
			if next++; int(next) <= len(want) {
				require.Equal(t, string(want[next-2]), string(r.Data))
			}
		}
		require.NoError(t, l.Trim(l.Next()))
		require.EqualValues(t, 1, l.Stats().Segments)
	})
	t.Run("tells of damage", func(t *testing.T) {
		fail := func(op waltest.Op) *waltest.Fault {
			if op.Kind != waltest.Read {
				return nil
			}
			return &waltest.Fault{Err: waltest.ErrIO}
		}
		disk.Inject(fail)
		_, err := replay(l, 1)
		require.ErrorIs(t, err, waltest.ErrIO)
		require.ErrorContains(t, err, ".wal")
		disk.Inject(nil)
	})
	t.Run("of a closed log is refused", func(t *testing.T) {
		require.NoError(t, l.Close())
		_, err := replay(l, 1)
		require.ErrorIs(t, err, wal.ErrClosed)
	})
}

func TestLog_Close(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	_, err := l.Queue(text(2))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.EqualValues(t, 2, l.Durable(), "what was queued is made durable")
	_, err = l.Append(ctx, text(3))
	require.ErrorIs(t, err, wal.ErrClosed)
	_, err = l.Queue(text(3))
	require.ErrorIs(t, err, wal.ErrClosed)
	_, err = l.Write(text(3))
	require.ErrorIs(t, err, wal.ErrClosed)
	require.NoError(t, l.Wait(ctx, 2))
	require.ErrorIs(t, l.Wait(ctx, 3), wal.ErrClosed)
	require.ErrorIs(t, l.Sync(ctx), wal.ErrClosed)
	require.ErrorIs(t, l.Trim(1), wal.ErrClosed)
	require.ErrorIs(t, l.Prepare(), wal.ErrClosed)
	requireRecords(t, open(t, disk.Crash(disk.Ops(), 0)), 1, text(1), text(2))
}

func TestOpen_Refuses(t *testing.T) {
	t.Run("a file", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "wal")
		require.NoError(t, os.WriteFile(name, nil, 0o600))
		_, err := wal.Open(name, wal.Options{})
		require.ErrorContains(t, err, name)
	})
	t.Run("a folder without a parent", func(t *testing.T) {
		_, err := wal.Open(filepath.Join(t.TempDir(), "a", "b"), wal.Options{})
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a folder without permission", func(t *testing.T) {
		if os.Geteuid() == 0 || runtime.GOOS == "windows" {
			t.Skip("nothing is forbidden here")
		}
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0))
		_, err := wal.Open(dir, wal.Options{})
		require.ErrorIs(t, err, os.ErrPermission)
	})
}

// TestOpen_LogsTornTail tears the second write of a log apart.
func TestOpen_LogsTornTail(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	appendAll(t, l, big(2, 3000))
	data := disk.Bytes(path(1))
	off := groupOffsets(data)[1]
	clear(data[off+1000:])
	disk.SetBytes(path(1), data)

	var logged bytes.Buffer
	opts := options(disk)
	opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	l = openWith(t, opts)
	require.Contains(t, logged.String(), name(1))
	require.EqualValues(t, off, l.Recovery().TornOffset)
	require.Positive(t, l.Recovery().TornBytes)
	require.EqualValues(t, 1, l.Recovery().Records)
	appendAll(t, l, text(2))
	requireRecords(t, l, 1, text(1), text(2))
	require.NoError(t, l.Close())

	logged.Reset()
	requireRecords(t, openWith(t, opts), 1, text(1), text(2))
	require.Empty(t, logged.String(), "a tail is cut once")
}

// TestLog_EndedContext; for contexts that end later see TestCommit_CancelledWhileWaiting.
func TestLog_EndedContext(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := l.Append(ended, text(1))
	require.Equal(t, context.Canceled, err, "plain, as nothing was queued")
	require.EqualValues(t, 1, l.Next())
	require.Zero(t, l.Stats().Queued)
}
