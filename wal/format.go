package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes of format 1, in bytes. The tables are in doc.go.
const (
	version         = 1
	blockBytes      = 4096 // the header block; groups begin after it
	headerBytes     = 80   // what the header uses of its block
	groupBytes      = 48   // header of a group
	recordBytes     = 4    // header of a record: its length
	groupAlign      = 8
	maxPayloadBytes = 1 << 30 // most payload of a group, for the writer and for the reader (R17)
)

var (
	magic      = [8]byte{0x89, 'G', 'O', 'W', 'A', 'L', '\r', '\n'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// alignUp rounds n up to a multiple of unit.
func alignUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// header is what the first block of a segment says.
type header struct {
	store   [16]byte
	number  uint64   // of the segment; its file name says the same
	base    Position // everything before it is durable, in earlier segments (R4)
	durable Position // everything up to it is durable, counting this segment (R20)
	salt    uint64   // random, never zero: marks the groups of this use of the file (R21)
	size    int64    // of the file
	chain   uint32   // CRC of the group before base
}

// encode writes the header to b, which holds at least headerBytes.
func (h *header) encode(b []byte) {
	copy(b, magic[:])
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], blockBytes)
	copy(b[16:], h.store[:])
	le.PutUint64(b[32:], h.number)
	le.PutUint64(b[40:], uint64(h.base))
	le.PutUint64(b[48:], uint64(h.durable))
	le.PutUint64(b[56:], h.salt)
	le.PutUint64(b[64:], uint64(h.size))
	le.PutUint32(b[72:], h.chain)
	le.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
}

// decodeHeader reads the header of the named segment. Magic, version and CRC keep their places in every version,
// so damage (ErrCorrupt) is never mistaken for a version of the future (ErrVersion, R46).
func decodeHeader(b []byte, file string) (header, error) {
	if len(b) < headerBytes || !bytes.Equal(b[:8], magic[:]) {
		return header{}, corrupt(file, 0, "no segment header")
	}
	if crc32.Checksum(b[:76], castagnoli) != le.Uint32(b[76:]) {
		return header{}, corrupt(file, 0, "segment header fails its checksum")
	}
	if v := le.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("%w: %s has version %d, this program knows %d", ErrVersion, file, v, version)
	}
	h := header{
		store:   [16]byte(b[16:32]),
		number:  le.Uint64(b[32:]),
		base:    Position(le.Uint64(b[40:])),
		durable: Position(le.Uint64(b[48:])),
		salt:    le.Uint64(b[56:]),
		size:    int64(le.Uint64(b[64:])),
		chain:   le.Uint32(b[72:]),
	}
	if h.base == 0 || h.durable+1 < h.base || h.salt == 0 {
		return header{}, corrupt(file, 0, "segment header makes no sense")
	}
	return h, nil
}

// seed is where the checksum of every group of the segment starts: a group copied from elsewhere fails it.
func (h *header) seed() uint32 {
	var b [16]byte
	le.PutUint64(b[0:], h.number)
	le.PutUint64(b[8:], h.salt)
	return crc32.Checksum(b[:], castagnoli)
}

// group is the header of a group, the atom of durability (R19): its records are valid together or not at all.
type group struct {
	payload uint32   // bytes after the header
	records uint32   // at least one
	first   Position // of the first record
	prev    Position // of the record before it: first-1, or less when records between have failed
	durable Position // everything up to it was durable when this group was written (R20)
	chain   uint32   // CRC of the group before
	crc     uint32   // over the seed, this header and the payload
}

// last is the position of the group's last record.
func (g *group) last() Position { return g.first + Position(g.records) - 1 }

// size is how many bytes the group takes in the file.
func (g *group) size() int64 { return alignUp(groupBytes+int64(g.payload), groupAlign) }

// seal writes the group's header in front of its payload in b, and returns the CRC.
func (g *group) seal(b []byte, salt uint64, seed uint32) uint32 {
	le.PutUint64(b[0:], salt)
	le.PutUint32(b[8:], g.payload)
	le.PutUint32(b[12:], g.records)
	le.PutUint64(b[16:], uint64(g.first))
	le.PutUint64(b[24:], uint64(g.prev))
	le.PutUint64(b[32:], uint64(g.durable))
	le.PutUint32(b[40:], g.chain)
	g.crc = groupCRC(b, g.payload, seed)
	le.PutUint32(b[44:], g.crc)
	return g.crc
}

// groupCRC is the checksum of the group in b: everything but the checksum itself.
func groupCRC(b []byte, payload, seed uint32) uint32 {
	crc := crc32.Update(seed, castagnoli, b[:44])
	return crc32.Update(crc, castagnoli, b[groupBytes:groupBytes+int(payload)])
}

// decodeGroup reads a group's header. It reports false when b does not begin with one of the segment with this
// salt, or when the group would not fit into the room bytes that are left (R16). Nothing but the shape has been
// checked then: see intact.
func decodeGroup(b []byte, salt uint64, room int64) (group, bool) {
	if len(b) < groupBytes || room < groupBytes || le.Uint64(b) != salt {
		return group{}, false
	}
	g := group{
		payload: le.Uint32(b[8:]),
		records: le.Uint32(b[12:]),
		first:   Position(le.Uint64(b[16:])),
		prev:    Position(le.Uint64(b[24:])),
		durable: Position(le.Uint64(b[32:])),
		chain:   le.Uint32(b[40:]),
		crc:     le.Uint32(b[44:]),
	}
	fits := int64(g.payload) <= min(room-groupBytes, maxPayloadBytes) &&
		int64(g.records)*recordBytes <= int64(g.payload)
	sane := g.records > 0 && g.durable <= g.prev && g.prev < g.first && g.first <= g.last()
	return g, fits && sane
}

// intact reports whether b, the group's header and payload, is as it was written.
func (g *group) intact(b []byte, seed uint32) bool {
	if groupCRC(b, g.payload, seed) != g.crc {
		return false
	}
	rest, ok := b[groupBytes:groupBytes+int(g.payload)], true
	for range g.records {
		if _, rest, ok = cutRecord(rest); !ok {
			return false
		}
	}
	return len(rest) == 0
}

// cutRecord splits the first record off a payload. It reports false when the payload is too short for it (R16).
func cutRecord(payload []byte) (data, rest []byte, ok bool) {
	if len(payload) < recordBytes {
		return nil, nil, false
	}
	n := le.Uint32(payload)
	payload = payload[recordBytes:]
	if uint64(n) > uint64(len(payload)) {
		return nil, nil, false
	}
	return payload[:n:n], payload[n:], true
}

// appendRecord adds a record to a payload.
func appendRecord(payload, data []byte) []byte {
	payload = le.AppendUint32(payload, uint32(len(data)))
	return append(payload, data...)
}
