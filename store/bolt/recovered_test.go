package bolt_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// R27: what was being written when the power went is cut, counted and logged with its
// place; what was acknowledged before it is there.
func TestRecovery(t *testing.T) {
	t.Parallel()
	dir, crashed := t.TempDir(), t.TempDir()
	s := open(t, dir)
	require.Zero(t, s.Recovery().Records)
	create(t, s, tasks(0, 5)...)
	create(t, s, tasks(5, 5)...)
	s.Freeze(func() { copyDir(t, dir, crashed) })

	segment := filepath.Join(crashed, "wal", "0000000000000001.wal")
	data, err := os.ReadFile(segment)
	require.NoError(t, err)
	last := bytes.LastIndex(data, []byte("n000009"))
	require.Positive(t, last)
	data[last]++
	require.NoError(t, os.WriteFile(segment, data, 0o600))

	var lines bytes.Buffer
	again, err := bolt.Open(crashed, bolt.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
	require.NoError(t, err)
	require.Len(t, names(t, again), 5)
	found := again.Recovery()
	require.Equal(t, 5, found.Records)
	require.Positive(t, found.Took)
	require.Equal(t, found, stats(t, again).Recovery)
	require.WithinDuration(t, time.Now(), stats(t, again).LastCheckpoint, time.Minute)
	require.Equal(t, filepath.Base(segment), found.TornFile)
	require.Positive(t, found.TornBytes)
	require.Less(t, found.TornOffset, int64(last))
	require.Contains(t, lines.String(), filepath.Base(segment))
	require.Contains(t, lines.String(), "torn tail")
	create(t, again, tasks(20, 1)...)
	require.NoError(t, again.Close())

	again = open(t, crashed)
	require.Zero(t, again.Recovery(), "it was a clean close")
	require.Len(t, names(t, again), 6)
}
