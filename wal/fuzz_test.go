package wal_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// FuzzOpen changes bytes of a small log, anywhere and as many as the fuzzer likes, and opens, verifies and salvages it: no
// panic, no record that was never written, no way that the three disagree (P11, R16).
func FuzzOpen(f *testing.F) {
	whole := waltest.New()
	l, err := wal.Open("wal", wal.Options{FS: whole, SegmentBytes: segmentBytes})
	require.NoError(f, err)
	written := map[wal.Position]string{}
	for i := range 9 {
		data := big(i, []int{20, 21000}[i%2])
		p, err := l.Append(ctx, data, text(i))
		require.NoError(f, err)
		written[p-1], written[p] = string(data), string(text(i))
	}
	require.NoError(f, l.Close())
	segments := uint8(len(whole.Names("wal")))
	require.GreaterOrEqual(f, segments, uint8(2))

	f.Add(uint8(0), uint16(0), []byte{}, uint16(segmentBytes-1))
	f.Add(uint8(1), uint16(groupsAt+8), []byte{0xff, 0xff, 0xff, 0x7f}, uint16(segmentBytes-1))
	f.Add(uint8(0), uint16(groupsAt), make([]byte, 600), uint16(segmentBytes-1))
	f.Add(uint8(1), uint16(numberAt), []byte{1}, uint16(50))
	f.Fuzz(func(t *testing.T, segment uint8, off uint16, data []byte, size uint16) {
		disk := whole.Crash(whole.Ops(), 0)
		name := path(1 + int(segment%segments))
		bytes := disk.Bytes(name)
		copy(bytes[off:], data)
		disk.SetBytes(name, bytes[:min(int(size)+1, len(bytes))])
		before := files(disk)

		report, intact, err := survey(disk)
		require.NoError(t, err)
		require.Equal(t, before, files(disk))
		for p, data := range intact {
			require.Equal(t, written[p], data)
		}
		l, err := wal.Open("wal", options(disk.Crash(0, 0)))
		require.Equal(t, err == nil, !report.Damaged(), "open: %v, findings: %+v", err, report.Findings)
		if err == nil {
			got, err := replay(l, 0)
			require.NoError(t, err)
			require.True(t, maps.Equal(intact, got))
			return
		}
		require.True(t, errors.Is(err, wal.ErrCorrupt) || errors.Is(err, wal.ErrVersion) || errors.Is(err, wal.ErrMismatch), "%v", err)
		_, err = wal.Salvage("wal", options(disk), ".bad")
		if err != nil {
			require.True(t, errors.Is(err, wal.ErrVersion) || errors.Is(err, wal.ErrMismatch), "%v", err)
			require.Equal(t, before, files(disk))
			return
		}
		require.NoError(t, opensWith(disk, report, intact))
	})
}
