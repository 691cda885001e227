package wal_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/v1 anew; only ever before format 1 is released")

// golden is the log in testdata/v1, which must open for ever.
var golden = struct {
	opts    wal.Options
	batches [][][]byte
}{
	wal.Options{Store: [16]byte([]byte("goutbox golden 1")), SegmentBytes: segmentBytes},
	[][][]byte{{[]byte("first")}, {[]byte("second"), []byte("third")}, {{}}, {bytes.Repeat([]byte("long "), 200)}},
}

func TestGolden(t *testing.T) {
	const dir = "testdata/v1"
	if *update {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o755))
		l, err := wal.Open(dir, golden.opts)
		require.NoError(t, err)
		for _, b := range golden.batches {
			_, err := l.Append(ctx, b...)
			require.NoError(t, err)
		}
		require.NoError(t, l.Close())
	}
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	var want [][]byte
	for _, b := range golden.batches {
		want = append(want, b...)
	}
	l, err := wal.Open(copied, golden.opts)
	require.NoError(t, err)
	requireRecords(t, l, 1, want...)
	require.Equal(t, wal.Recovery{Segments: 1, Records: 5, First: 1, Next: 6}, l.Recovery())
	appendAll(t, l, text(6))
	requireRecords(t, l, 1, append(want, text(6))...)
	require.NoError(t, l.Close())
}
