package wal_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// damagedLog makes a log with damage that Open refuses, and returns what is intact.
func damagedLog(t *testing.T, damage func(disk *waltest.FS)) (*waltest.FS, map[wal.Position]string) {
	disk, _ := smallLog(t)
	damage(disk)
	disk = disk.Crash(disk.Ops(), 1)
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
	_, intact, err := survey(disk)
	require.NoError(t, err)
	require.NotEmpty(t, intact)
	return disk, intact
}

func spoilGroup(segment, n int) func(disk *waltest.FS) {
	return func(disk *waltest.FS) {
		data := disk.Bytes(path(segment))
		data[groupOffsets(data)[n]+groupHeader]++
		disk.SetBytes(path(segment), data)
	}
}

// crashedSalvages are logs whose salvage the tests cut short. In one the damage is in the only segment, so what Salvage
// makes begins where that did; in another the log lost its beginning.
func crashedSalvages(t *testing.T) map[string]func() (*waltest.FS, map[wal.Position]string) {
	one := func() (*waltest.FS, map[wal.Position]string) {
		disk := waltest.New()
		l := openWith(t, wal.Options{FS: disk, SegmentBytes: 3 * segmentBytes})
		for i := range 20 {
			appendAll(t, l, big(i, 8000))
		}
		require.NoError(t, l.Close())
		spoilGroup(1, 0)(disk)
		_, intact, err := survey(disk)
		require.NoError(t, err)
		require.Len(t, intact, 19)
		return disk, intact
	}
	return map[string]func() (*waltest.FS, map[wal.Position]string){
		"one segment, into many": one,
		"in the middle":          func() (*waltest.FS, map[wal.Position]string) { return damagedLog(t, spoilGroup(2, 1)) },
		"in the first":           func() (*waltest.FS, map[wal.Position]string) { return damagedLog(t, spoilGroup(1, 0)) },
		"in the newest":          func() (*waltest.FS, map[wal.Position]string) { return damagedLog(t, spoilGroup(3, 2)) },
		"a header": func() (*waltest.FS, map[wal.Position]string) {
			return damagedLog(t, func(disk *waltest.FS) {
				data := disk.Bytes(path(1))
				clear(data[:600])
				disk.SetBytes(path(1), data)
			})
		},
		"a segment": func() (*waltest.FS, map[wal.Position]string) {
			return damagedLog(t, func(disk *waltest.FS) { require.NoError(t, disk.Remove(path(2))) })
		},
	}
}

// again salvages what a crash has left, as often as it takes, and checks that the log has what was intact in the beginning.
// A folder that Open takes must have it all already.
func again(disk *waltest.FS, intact map[wal.Position]string) error {
	l, err := wal.Open("wal", options(disk))
	switch {
	case err == nil:
		got, err := replay(l, 0)
		if err == nil && !maps.Equal(got, intact) {
			err = fmt.Errorf("open takes a log with %v of %v", keys(got), keys(intact))
		}
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	case !errors.Is(err, wal.ErrCorrupt):
		return err
	}
	report, err := wal.Salvage("wal", options(disk), ".bad")
	if err != nil {
		return err
	}
	return opensWith(disk, report, intact)
}

// TestSalvage_CrashAnywhere turns the power off after every operation of a salvage, salvages again, and turns it off after
// every operation of that (R28). Never is a record less there than in the beginning.
func TestSalvage_CrashAnywhere(t *testing.T) {
	t.Parallel()
	for name, damaged := range crashedSalvages(t) {
		t.Run(name, func(t *testing.T) {
			disk, intact := damaged()
			disk.SetBytes("wal/0000000000000009.tmp", []byte("left over"))
			_, err := wal.Salvage("wal", options(disk), ".bad")
			require.NoError(t, err)
			for n := range disk.Ops() + 1 {
				for seed := range seeds(n, 3, 30) {
					first := disk.Crash(n, seed)
					second := first.Crash(0, 0)
					if err := again(first, intact); err != nil {
						t.Fatalf("crash after %d operations, before %v, seed %d: %v", n, nextOp(disk, n), seed, err)
					}
					if (n+int(seed))%13 != 0 && !long {
						continue
					}
					_, err := wal.Salvage("wal", options(second), ".bad")
					require.NoError(t, err)
					for m := range second.Ops() + 1 {
						if err := again(second.Crash(m, seed+uint64(m)%4), intact); err != nil {
							t.Fatalf("crash after %d operations, seed %d, then after %d more, before %v: %v", n, seed, m, nextOp(second, m), err)
						}
					}
				}
			}
		})
	}
}

// TestSalvage_FaultAnywhere lets every operation of a salvage fail, as a broken and as a full device do. It can be done again.
func TestSalvage_FaultAnywhere(t *testing.T) {
	t.Parallel()
	for name, damaged := range crashedSalvages(t) {
		t.Run(name, func(t *testing.T) {
			whole, intact := damaged()
			clean := whole.Crash(0, 0)
			_, err := wal.Salvage("wal", options(clean), ".bad")
			require.NoError(t, err)
			for n := range clean.Ops() {
				for _, cause := range []error{waltest.ErrIO, waltest.ErrFull} {
					disk := whole.Crash(0, 0)
					disk.FailFrom(n, cause)
					_, err := wal.Salvage("wal", options(disk), ".bad")
					require.ErrorIs(t, err, cause)
					disk.Inject(nil)
					require.NoError(t, again(disk, intact), "%v from %v", cause, clean.Op(n))
				}
			}
		})
	}
}

// TestSalvage_FullDevice: spares are given up for it, and without room nothing has changed.
func TestSalvage_FullDevice(t *testing.T) {
	disk, _ := smallLog(t)
	l := open(t, disk)
	require.NoError(t, l.Prepare())
	require.NoError(t, l.Close())
	spoilGroup(1, 1)(disk)
	disk.SetBytes("wal/0000000000000001.tmp", []byte("left over"))
	_, intact, err := survey(disk)
	require.NoError(t, err)
	before := files(disk)

	disk.SetFree(0)
	_, err = wal.Salvage("wal", options(disk), ".bad")
	require.ErrorIs(t, err, wal.ErrNoSpace)
	after := files(disk)
	for segment := 1; segment <= 3; segment++ {
		require.Equal(t, before[name(segment)], after[name(segment)])
	}
	require.Len(t, after, 3, "what was made for nothing is gone, and the spares are")
	disk.SetFree(3*segmentBytes - 1)
	_, err = wal.Salvage("wal", options(disk), ".bad")
	require.ErrorIs(t, err, wal.ErrNoSpace)
	disk.SetFree(3 * segmentBytes)
	report, err := wal.Salvage("wal", options(disk), ".bad")
	require.NoError(t, err)
	require.NoError(t, opensWith(disk, report, intact))
}

// TestSalvage_Appends goes on with a salvaged log, salvages it again after more damage, and has the first damaged file in
// the way of the second's name.
func TestSalvage_Appends(t *testing.T) {
	disk, intact := damagedLog(t, spoilGroup(2, 1))
	report, err := wal.Salvage("wal", options(disk), ".bad")
	require.NoError(t, err)
	l := open(t, disk)
	require.Zero(t, l.Recovery().TornBytes)
	last, err := l.Append(ctx, text(1))
	require.NoError(t, err)
	require.Equal(t, report.Next, last)
	intact[last] = string(text(1))
	require.NoError(t, l.Close())
	got, err := replay(open(t, disk.Crash(disk.Ops(), 0)), 0)
	require.NoError(t, err)
	require.Equal(t, intact, got)

	spoilGroup(4, 0)(disk)
	delete(intact, 1)
	disk.SetBytes(path(4)+".bad", []byte("in the way"))
	report, err = wal.Salvage("wal", options(disk), ".bad")
	require.NoError(t, err)
	require.NoError(t, opensWith(disk, report, intact))
	require.Equal(t, "in the way", string(disk.Bytes(path(4)+".bad")))
	require.NotNil(t, disk.Bytes(path(4)+".bad+"))
	require.NotNil(t, disk.Bytes(path(2)+".bad"), "that of the first time")

	for _, suffix := range []string{"", "/../x", `\x`} {
		_, err = wal.Salvage("wal", options(disk), suffix)
		require.Error(t, err)
	}
}

// TestSalvage_TornTailStaysOut has damage before the end and a torn tail at it. What is behind the tear was never
// acknowledged, intact or not, and is not brought back.
func TestSalvage_TornTailStaysOut(t *testing.T) {
	disk := waltest.New()
	l := openWith(t, wal.Options{FS: disk})
	appendAll(t, l, texts(1, 5)...)
	for i := range 3 { // one sync, three groups
		_, err := l.Write(big(6+i, 1<<20-100))
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
	spoilGroup(1, 2)(disk) // record 3
	spoilGroup(1, 6)(disk) // record 7: of the last sync, so it may have been torn
	report, got, err := survey(disk)
	require.NoError(t, err)
	require.Equal(t, []wal.Position{1, 2, 4, 5, 6}, keys(got))
	require.Len(t, report.Findings, 2)
	require.True(t, report.Findings[1].Torn)
	report, err = wal.Salvage("wal", wal.Options{FS: disk}, ".bad")
	require.NoError(t, err)
	require.NoError(t, opensWith(disk, report, got))
	require.EqualValues(t, 7, open(t, disk).Next())
}

// TestSalvage_KeepsGaps: numbers that failed for want of space are not reported as lost where all is whole around them.
func TestSalvage_KeepsGaps(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, big(1, 30000))
	disk.SetFree(30000)
	_, err := l.Append(ctx, big(2, 40000))
	require.ErrorIs(t, err, wal.ErrNoSpace)
	disk.SetFree(-1)
	require.NoError(t, l.Prepare())
	appendAll(t, l, text(3), text(4), text(5))
	require.NoError(t, l.Close())
	spoilGroup(1, 2)(disk)
	report, got, err := survey(disk)
	require.NoError(t, err)
	require.Equal(t, []wal.Position{1, 3, 5}, keys(got))
	require.Len(t, report.Findings, 1)
	require.EqualValues(t, 4, report.Findings[0].From)
	require.EqualValues(t, 4, report.Findings[0].To)
	report, err = wal.Salvage("wal", options(disk), ".bad")
	require.NoError(t, err)
	require.NoError(t, opensWith(disk, report, got))
}
