package wal

// White box: the format is below the public API, and a fuzzer would never guess a checksum.

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// memFile is a file in memory.
type memFile []byte

func (m memFile) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(b, off) }
func (m memFile) WriteAt([]byte, int64) (int, error)      { return 0, errors.ErrUnsupported }
func (m memFile) Sync() error                             { return nil }
func (m memFile) Size() (int64, error)                    { return int64(len(m)), nil }
func (m memFile) Close() error                            { return nil }

// testHeader describes a segment of 4096+n bytes.
func testHeader(n int) header {
	return header{number: 7, base: 100, durable: 99, salt: 0x1122334455667788, size: blockBytes + int64(n), chain: 5}
}

// sealAll lets groups appear valid from their first byte on: tag, order, size and checksum are right, all else is as
// the fuzzer wants it.
func sealAll(body []byte, h *header) {
	prev, chain := h.base-1, h.chain
	for off := 0; off+groupBytes <= len(body); {
		b := body[off:]
		g := group{payload: le.Uint32(b[8:]), records: le.Uint32(b[12:]), prev: prev, first: prev + 1, durable: prev, chain: chain}
		g.payload %= uint32(len(b) - groupBytes + 1)
		if b[47]%4 == 0 { // a gap
			g.first += Position(b[46])
		}
		chain, prev = g.seal(b, h.salt, h.seed()), g.last()
		off += int(g.size())
	}
}

// readAll reads a segment as readNewest does.
func readAll(t *testing.T, file memFile, h *header) (records [][]byte, err error) {
	s := &scanner{window: window{file: file, name: "fuzz"}, off: blockBytes}
	if err := s.readHeader(h.number, h.store); err != nil {
		return nil, err
	}
	for {
		before, last := s.off, s.last
		g, payload, ok, err := s.next()
		require.NoError(t, err, "reading within the file cannot fail")
		if !ok {
			require.Equal(t, before, s.off)
			_, err := s.judge()
			return records, err
		}
		require.Greater(t, g.first, last)
		require.GreaterOrEqual(t, g.last(), g.first)
		require.Greater(t, s.off, before)
		require.LessOrEqual(t, s.off, alignUp(s.size, groupAlign))
		for range g.records {
			data, rest, ok := cutRecord(payload)
			require.True(t, ok)
			records, payload = append(records, data), rest
		}
		require.Empty(t, payload)
	}
}

// FuzzSegment reads any bytes as a segment: nothing may panic, be read outside the file or come out of order.
func FuzzSegment(f *testing.F) {
	payload := appendRecord(appendRecord(nil, []byte("one")), []byte("two"))
	g := make([]byte, groupBytes)
	le.PutUint32(g[8:], uint32(len(payload)))
	le.PutUint32(g[12:], 2)
	good := append(g, payload...)
	f.Add([]byte{}, true)
	f.Add(good, true)
	f.Add(append(append(append([]byte{}, good...), make([]byte, 2)...), good...), true)
	f.Add(bytes.Repeat([]byte{0xff}, 200), true)
	f.Add(make([]byte, 300), false)
	f.Fuzz(func(t *testing.T, body []byte, seal bool) {
		body = bytes.Clone(body)
		h := testHeader(len(body))
		if seal {
			sealAll(body, &h)
		}
		file := make(memFile, blockBytes)
		h.encode(file)
		_, err := readAll(t, append(file, body...), &h)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
		_, err = readAll(t, body, &h) // the header, too
		require.Error(t, err)
	})
}

// FuzzGroup writes records as a group and reads them back. Any one bit that changes makes the group invalid, any length
// that is cut off too.
func FuzzGroup(f *testing.F) {
	f.Add([]byte("hello, world"), uint8(3), uint64(0), uint32(0))
	f.Add([]byte{}, uint8(1), uint64(1), uint32(77))
	f.Add(bytes.Repeat([]byte("x"), 5000), uint8(200), uint64(math.MaxUint64-300), uint32(4000))
	f.Fuzz(func(t *testing.T, data []byte, n uint8, prev uint64, bit uint32) {
		records := max(int(n), 1)
		if prev > math.MaxUint64-300 {
			prev = 0
		}
		b := make([]byte, groupBytes)
		for i := range records {
			b = appendRecord(b, data[len(data)*i/records:len(data)*(i+1)/records])
		}
		const salt, seed = 99, 42
		g := group{payload: uint32(len(b) - groupBytes), records: uint32(records), first: Position(prev) + 1, prev: Position(prev)}
		g.seal(b, salt, seed)

		got, ok := decodeGroup(b, salt, int64(len(b)))
		require.True(t, ok)
		require.Equal(t, g, got)
		require.True(t, got.intact(b, seed))
		require.False(t, got.intact(b, seed+1), "of another segment")
		_, ok = decodeGroup(b, salt, int64(len(b)-1))
		require.False(t, ok, "longer than the file")
		_, ok = decodeGroup(b, salt+1, int64(len(b)))
		require.False(t, ok, "of an earlier use of the file")

		b[int(bit/8)%len(b)] ^= 1 << (bit % 8)
		got, ok = decodeGroup(b, salt, int64(len(b)))
		require.False(t, ok && got.intact(b, seed))
	})
}

// TestFormat_RecordLengths has checksums that are right and lengths that are not (R16).
func TestFormat_RecordLengths(t *testing.T) {
	for _, lengths := range [][]uint32{{5}, {math.MaxUint32}, {0, 1}, {3}, {4, 0}, {0, 0, 0}} {
		b := make([]byte, groupBytes+8)
		for i, n := range lengths {
			if i < 2 {
				le.PutUint32(b[groupBytes+4*i:], n)
			}
		}
		g := group{payload: 8, records: uint32(len(lengths)), first: 1}
		g.seal(b, 1, 1)
		got, ok := decodeGroup(b, 1, int64(len(b)))
		require.False(t, ok && got.intact(b, 1), "%v", lengths)
	}
}

// TestFormat_GroupMustMakeSense has headers whose checksum is right.
func TestFormat_GroupMustMakeSense(t *testing.T) {
	good := group{payload: 4, records: 1, first: 5, prev: 4, durable: 4}
	for name, change := range map[string]func(*group){
		"no records":             func(g *group) { g.records = 0 },
		"more records than fit":  func(g *group) { g.records = 2 },
		"step back":              func(g *group) { g.prev = 5 },
		"durable before written": func(g *group) { g.durable = 5 },
		"positions overflow":     func(g *group) { g.first, g.payload, g.records = math.MaxUint64, 8, 2 },
		"too long":               func(g *group) { g.payload = 9 },
	} {
		g := good
		change(&g)
		b := make([]byte, groupBytes+16)
		g.seal(b, 1, 1)
		_, ok := decodeGroup(b, 1, groupBytes+8)
		require.False(t, ok, name)
	}
}

// TestFormat_GroupsFollowEachOther has a second group whose checksum is right, but that does not belong there (R18).
func TestFormat_GroupsFollowEachOther(t *testing.T) {
	for name, change := range map[string]func(*group){
		"follows":         func(*group) {},
		"leaves a gap":    func(g *group) { g.first += 7 }, // records that failed
		"another before":  func(g *group) { g.chain++ },
		"hides a gap":     func(g *group) { g.prev++; g.first++ },
		"repeats records": func(g *group) { g.prev--; g.first-- },
	} {
		h := testHeader(2 * 56)
		body := make([]byte, 2*56)
		one := group{payload: 8, records: 2, first: 100, prev: 99, durable: 99, chain: h.chain}
		crc := one.seal(body, h.salt, h.seed())
		two := group{payload: 4, records: 1, first: 102, prev: 101, durable: 99, chain: crc}
		change(&two)
		two.seal(body[56:], h.salt, h.seed())

		file := make(memFile, blockBytes)
		h.encode(file)
		records, err := readAll(t, append(file, body...), &h)
		require.NoError(t, err)
		want := 2
		if name == "follows" || name == "leaves a gap" {
			want = 3
		}
		require.Len(t, records, want, name)
	}
}

// TestFormat_GoldenIsWhatWeWrite writes the golden segment again, with the salt it has: every byte must be the same.
func TestFormat_GoldenIsWhatWeWrite(t *testing.T) {
	golden, err := os.ReadFile("testdata/v1/0000000000000001.wal")
	require.NoError(t, err)
	h, err := decodeHeader(golden, "golden")
	require.NoError(t, err)
	require.Equal(t, header{store: [16]byte([]byte("goutbox golden 1")), number: 1, base: 1, salt: h.salt, size: 64 << 10}, h)

	again := make([]byte, blockBytes)
	h.encode(again)
	prev, chain := Position(0), uint32(0)
	for _, records := range [][]string{{"first"}, {"second", "third"}, {""}, {string(bytes.Repeat([]byte("long "), 200))}} {
		b := make([]byte, groupBytes)
		for _, data := range records {
			b = appendRecord(b, []byte(data))
		}
		g := group{payload: uint32(len(b) - groupBytes), records: uint32(len(records)), first: prev + 1, prev: prev, durable: prev, chain: chain}
		chain, prev = g.seal(b, h.salt, h.seed()), g.last()
		again = append(again, b...)
		again = append(again, make([]byte, int(g.size())-len(b))...)
	}
	again = append(again, make([]byte, len(golden)-len(again))...)
	require.True(t, bytes.Equal(golden, again))
}

func TestFormat_WindowReadsWithinTheFile(t *testing.T) {
	file := make(memFile, windowBytes+1000)
	for i := range file {
		file[i] = byte(i * 31)
	}
	w := window{file: file, size: int64(len(file))}
	for _, at := range [][2]int64{{0, 10}, {windowBytes - 5, 5}, {windowBytes - 5, 10}, {500, windowBytes + 500}, {windowBytes + 999, 1}, {0, 0}} {
		b, err := w.at(at[0], at[1])
		require.NoError(t, err)
		require.Equal(t, []byte(file[at[0]:at[0]+at[1]]), b)
	}
	w = window{file: file[:100], size: 200}
	_, err := w.at(0, 200)
	require.ErrorIs(t, err, io.EOF)
}

// FuzzHeader decodes any bytes as the header of a segment: what is accepted makes sense and is encoded to the same bytes,
// and with a right checksum all that is refused is damage or a newer version.
func FuzzHeader(f *testing.F) {
	h := testHeader(1000)
	good := make([]byte, headerBytes)
	h.encode(good)
	f.Add(good, true)
	f.Add(good[:40], false)
	f.Add(make([]byte, headerBytes), true)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		b = bytes.Clone(b)
		if sign && len(b) >= headerBytes {
			copy(b, magic[:])
			le.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
		}
		h, err := decodeHeader(b, "fuzz")
		if err != nil {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion))
			require.Zero(t, h)
			return
		}
		require.NotZero(t, h.salt)
		require.NotZero(t, h.base)
		require.GreaterOrEqual(t, h.durable+1, h.base)
		again := make([]byte, headerBytes)
		h.encode(again)
		copy(again[12:16], b[12:16]) // where the groups begin is written and, in version 1, not read
		le.PutUint32(again[76:], crc32.Checksum(again[:76], castagnoli))
		require.Equal(t, b[:headerBytes], again)
	})
}

// FuzzRecord cuts any bytes into records: together they are what was cut off, and nothing is read outside.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, []byte("one")), nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{3, 0, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var again []byte
		rest := payload
		for {
			data, more, ok := cutRecord(rest)
			if !ok {
				break
			}
			require.Equal(t, len(data), cap(data), "an append must not run into the next record")
			again, rest = appendRecord(again, data), more
		}
		require.True(t, bytes.Equal(payload, append(again, rest...)))
	})
}
