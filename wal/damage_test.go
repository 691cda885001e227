package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// Places in format 1, written down once more: a test that took them from the code would follow it when it drifts.
const (
	groupsAt     = 4096
	groupHeader  = 48
	versionAt    = 8
	numberAt     = 32
	baseAt       = 40
	durableAt    = 48
	headerSumAt  = 76
	groupDurable = 32
)

// smallLog makes a log of three segments, some records large and some small.
func smallLog(t *testing.T) (disk *waltest.FS, records [][]byte) {
	disk = waltest.New()
	l := open(t, disk)
	for i := range 36 {
		size := 20 + i
		if i%6 == 0 {
			size = 21000
		}
		records = append(records, big(i, size))
	}
	appendAll(t, l, records...)
	require.NoError(t, l.Close())
	require.Equal(t, []string{name(1), name(2), name(3)}, disk.Names("wal"))
	return disk, records
}

func name(segment int) string { return fmt.Sprintf("%016d.wal", segment) }

// path of a segment in memory.
func path(segment int) string { return "wal/" + name(segment) }

// damage is what was done to one file.
type damage struct {
	segment int
	what    string
	whole   []byte // before
	groups  []int  // where its groups are
	data    []byte // after
}

// outcomes counts how a damaged log was met.
type outcomes struct {
	intact, torn, corrupt int
	why                   reached // the reasons of those that were corrupt
}

// reasons are the words of errors by which they can be told.
var reasons = []string{"no segment header", "fails its checksum", "but the next segment begins with", "does not end where",
	"had become durable before the group", "header says that the file has", "file ends within"}

// watermark is the highest durable position that the segment's groups name, leaving out those that were damaged.
func (d *damage) watermark() (sure wal.Position) {
	end := len(d.whole)
	for _, off := range slices.Backward(d.groups) {
		if end <= len(d.data) && bytes.Equal(d.whole[off:end], d.data[off:end]) {
			return wal.Position(binary.LittleEndian.Uint64(d.whole[off+groupDurable:])) // they rise
		}
		end = off
	}
	return 0
}

// meet damages a log and opens it. It may be refused as corrupt, or come up with an exact prefix that has every
// record that some watermark vouches for; anything else is an error (P11).
func (o *outcomes) meet(disk *waltest.FS, d damage, records [][]byte) error {
	sure := wal.Position(len(records) - 1) // the last segment's last group says so
	if d.segment == 3 {
		sure = d.watermark()
	}
	disk.SetBytes(path(d.segment), d.data)
	l, err := wal.Open("wal", options(disk))
	if errors.Is(err, wal.ErrCorrupt) {
		o.corrupt++
		for _, r := range reasons {
			if strings.Contains(err.Error(), r) {
				o.why[r]++
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	got, err := replay(l, 0)
	if err != nil {
		return err
	}
	for p, data := range got {
		if int(p) > len(records) || data != string(records[p-1]) {
			return fmt.Errorf("record %d is wrong", p)
		}
	}
	switch n := wal.Position(len(got)); {
	case n != l.Next()-1 || n < sure:
		return fmt.Errorf("%d records, next is %d, but %d had a watermark", n, l.Next(), sure)
	case int(n) == len(records):
		o.intact++
	default:
		o.torn++
	}
	return nil
}

// TestDamage_NeverWrongData flips bits, blanks sectors and cuts files of a small log, one damage at a time.
func TestDamage_NeverWrongData(t *testing.T) {
	t.Parallel()
	disk, records := smallLog(t)
	why := reached{}
	for _, kind := range []struct {
		name   string
		damage func(data []byte, yield func(what string, data []byte))
	}{
		{"flipped bit", flipBits},
		{"blank sector", blankSectors},
		{"truncated", truncate},
	} {
		t.Run(kind.name, func(t *testing.T) {
			o := outcomes{why: reached{}}
			copied := disk.Crash(disk.Ops(), 0)
			for segment := 1; segment <= 3; segment++ {
				whole := disk.Bytes(path(segment))
				groups := groupOffsets(whole)
				kind.damage(whole, func(what string, data []byte) {
					if err := o.meet(copied, damage{segment, what, whole, groups, data}, records); err != nil {
						t.Fatalf("segment %d, %s: %v", segment, what, err)
					}
				})
				copied.SetBytes(path(segment), whole)
			}
			t.Logf("%+v", o)
			for r, n := range o.why {
				why[r] += n
			}
			require.Positive(t, o.corrupt)
			if kind.name == "truncated" {
				require.Zero(t, o.intact+o.torn, "a file has its full size from the beginning")
				return
			}
			require.Positive(t, o.intact, "damage behind the end of the records does no harm")
			require.Positive(t, o.torn, "the last record has no watermark above it")
		})
	}
	why.require(t, slices.DeleteFunc(slices.Clone(reasons), func(r string) bool {
		return r == "does not end where" // a group is damaged or not; see TestDamage_OlderCopy and TestDamage_OtherHistory
	})...)
}

// flipBits flips one bit of each byte of the headers and of the small records, and of some of the rest.
func flipBits(data []byte, yield func(string, []byte)) {
	headers := append(groupOffsets(data), 0)
	near := map[int]bool{}
	for _, off := range headers {
		for i := range 100 {
			near[off+i] = true
		}
	}
	for i := range data {
		dense := near[i]
		if (!dense || i%3 != 0 && !long) && i%997 != 0 {
			continue
		}
		flipped := append([]byte{}, data...)
		flipped[i] ^= 1 << (i % 8)
		yield(fmt.Sprintf("bit flipped at %d", i), flipped)
	}
}

func blankSectors(data []byte, yield func(string, []byte)) {
	for off := 0; off < len(data); off += 512 {
		blank := append([]byte{}, data...)
		clear(blank[off : off+512])
		yield(fmt.Sprintf("sector at %d blank", off), blank)
	}
}

func truncate(data []byte, yield func(string, []byte)) {
	for size := 0; size < len(data); size += 512 {
		yield(fmt.Sprintf("cut to %d", size), data[:size])
	}
}

// groupOffsets finds the groups of a segment by the salt that begins each.
func groupOffsets(data []byte) (offsets []int) {
	salt := data[groupsAt : groupsAt+8]
	for off := groupsAt; ; off += 8 {
		next := bytes.Index(data[off:], salt)
		if next < 0 {
			return offsets
		}
		off += next // always a multiple of 8
		offsets = append(offsets, off)
	}
}

func TestDamage_NamesFileAndOffset(t *testing.T) {
	disk, _ := smallLog(t)
	for _, segment := range []int{1, 3} {
		copied := disk.Crash(disk.Ops(), 0)
		data := copied.Bytes(path(segment))
		off := groupOffsets(data)[1]
		data[off+groupHeader]++
		copied.SetBytes(path(segment), data)

		_, err := wal.Open("wal", options(copied))
		require.ErrorIs(t, err, wal.ErrCorrupt)
		require.ErrorContains(t, err, fmt.Sprintf("%s at offset %d", name(segment), off))
		require.Equal(t, data, copied.Bytes(path(segment)), "the file must be kept as it is")
	}
}

// TestDamage_Watermark damages the first of two groups. It is a torn tail when both were written for one sync, and
// corruption when the second was written after the first had been synced: only the watermark tells (R20, R22).
func TestDamage_Watermark(t *testing.T) {
	for _, syncBetween := range []bool{false, true} {
		disk := waltest.New()
		l := openWith(t, wal.Options{FS: disk})
		appendAll(t, l, text(1))
		_, err := l.Write(big(2, 700<<10))
		require.NoError(t, err)
		if syncBetween {
			require.NoError(t, l.Sync(ctx))
		}
		_, err = l.Write(big(3, 700<<10)) // does not fit into one group with the last
		require.NoError(t, err)
		require.NoError(t, l.Close())
		data := disk.Bytes(path(1))
		offsets := groupOffsets(data)
		require.Len(t, offsets, 3)
		data[offsets[1]+groupHeader+100]++
		disk.SetBytes(path(1), data)

		l, err = wal.Open("wal", wal.Options{FS: disk})
		if syncBetween {
			require.ErrorIs(t, err, wal.ErrCorrupt)
			continue
		}
		require.NoError(t, err)
		requireRecords(t, l, 1, text(1))
		found := l.Recovery()
		require.Equal(t, name(1), found.TornFile)
		require.EqualValues(t, offsets[1], found.TornOffset)
		require.Greater(t, found.TornBytes, int64(1400<<10))
	}
}

// TestDamage_WatermarkInHeader damages all groups of a segment that begins with records of the run before, written again:
// the header alone knows that these had become durable.
func TestDamage_WatermarkInHeader(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, text(1))
	require.NoError(t, l.Close())
	l = open(t, disk)
	appendAll(t, l, text(2))
	requireRecords(t, l, 1, texts(1, 2)...)
	require.NoError(t, l.Close())
	data := disk.Bytes(path(2))
	require.Len(t, groupOffsets(data), 2)
	clear(data[groupsAt : groupsAt+1024])
	disk.SetBytes(path(2), data)
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
	require.ErrorContains(t, err, "record 1 ")
}

func TestDamage_MissingSegment(t *testing.T) {
	for _, missing := range []int{1, 2, 3} {
		disk, records := smallLog(t)
		require.NoError(t, disk.Remove(path(missing)))
		l, err := wal.Open("wal", options(disk))
		switch missing {
		case 1: // as if it had been trimmed
			require.NoError(t, err)
			require.Greater(t, l.First(), wal.Position(1))
			requireRecords(t, l, l.First(), records[l.First()-1:]...)
		case 2:
			require.ErrorIs(t, err, wal.ErrCorrupt)
			require.ErrorContains(t, err, name(2))
		case 3: // nothing can tell: the owner of the log knows how far it was
			require.NoError(t, err)
			require.Less(t, int(l.Next()), len(records))
		}
	}
}

func TestDamage_SwappedSegments(t *testing.T) {
	disk, _ := smallLog(t)
	one, two := disk.Bytes(path(1)), disk.Bytes(path(2))
	disk.SetBytes(path(1), two)
	disk.SetBytes(path(2), one)
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
	require.ErrorContains(t, err, "header says segment 2")
}

// TestDamage_OlderCopy puts an older copy of a segment in place, as a bad restore does: all its groups are valid, but the
// next segment says that there were more.
func TestDamage_OlderCopy(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, big(1, 30000))
	older := disk.Bytes(path(1))
	appendAll(t, l, big(2, 30000), big(3, 30000))
	require.NoError(t, l.Close())
	disk.SetBytes(path(1), older)
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
}

// TestDamage_OtherHistory has a segment of the same store, number and length, but with other records in it.
func TestDamage_OtherHistory(t *testing.T) {
	disk, other := waltest.New(), waltest.New()
	for i, d := range []*waltest.FS{disk, other} {
		l := open(t, d)
		appendAll(t, l, big(i, 40000), big(2, 40000))
		require.NoError(t, l.Close())
	}
	disk.SetBytes(path(1), other.Bytes(path(1)))
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
	require.ErrorContains(t, err, name(1))
}

// TestDamage_StepBack has a segment that claims to begin before the one that it follows.
func TestDamage_StepBack(t *testing.T) {
	disk := waltest.New()
	l := open(t, disk)
	appendAll(t, l, big(1, 40000), big(2, 40000))
	require.NoError(t, l.Trim(2))
	require.NoError(t, l.Close())
	back := disk.Bytes(path(2))
	clear(back[groupsAt:])
	back[numberAt], back[baseAt], back[durableAt] = 3, 1, 0
	disk.SetBytes(path(3), signed(back))
	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrCorrupt)
}

// signed puts the right checksum into a header that was changed.
func signed(data []byte) []byte {
	sum := crc32.Checksum(data[:headerSumAt], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(data[headerSumAt:], sum)
	return data
}

func TestOpen_FutureVersion(t *testing.T) {
	disk, _ := smallLog(t)
	data := disk.Bytes(path(2))
	binary.LittleEndian.PutUint32(data[versionAt:], 2)
	disk.SetBytes(path(2), signed(data))
	disk.SetBytes("wal/0000000000000001.tmp", []byte("left over"))
	before := disk.Names("wal")

	_, err := wal.Open("wal", options(disk))
	require.ErrorIs(t, err, wal.ErrVersion)
	require.ErrorContains(t, err, name(2))
	require.ErrorContains(t, err, "version 2")
	require.Equal(t, before, disk.Names("wal"), "nothing may be touched (R46)")
}

func TestOpen_OtherStore(t *testing.T) {
	disk, _ := smallLog(t)
	opts := options(disk)
	opts.Store[3] = 7
	_, err := wal.Open("wal", opts)
	require.ErrorIs(t, err, wal.ErrMismatch)
	require.ErrorContains(t, err, name(1))
}
