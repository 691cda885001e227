package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// list builds the text of an array, which every driver hands on as it is.
type list struct{ b []byte }

func (l *list) next() {
	if len(l.b) == 0 {
		l.b = append(l.b, '{')
	} else {
		l.b = append(l.b, ',')
	}
}

func (l *list) int(n int64) {
	l.next()
	l.b = strconv.AppendInt(l.b, n, 10)
}

// bytes adds an element of a bytea array.
func (l *list) bytes(b []byte) {
	l.next()
	l.b = append(l.b, `"\\x`...)
	l.b = hex.AppendEncode(l.b, b)
	l.b = append(l.b, '"')
}

// text adds a text as bytea, the empty one as NULL.
func (l *list) text(s string) {
	if s == "" {
		l.null()
		return
	}
	l.bytes([]byte(s))
}

func (l *list) null() {
	l.next()
	l.b = append(l.b, "NULL"...)
}

// word adds what needs no quotes.
func (l *list) word(s string) {
	l.next()
	l.b = append(l.b, s...)
}

// id adds an ID as uuid.
func (l *list) id(id outbox.ID) {
	l.next()
	l.b = hex.AppendEncode(l.b, id[:])
}

func (l *list) String() string {
	if len(l.b) == 0 {
		return "{}"
	}
	return string(l.b) + "}"
}

// idList is the text of a uuid array.
func idList(ids []outbox.ID) string {
	var l list
	for _, id := range ids {
		l.id(id)
	}
	return l.String()
}

// textList is the text of a bytea array.
func textList(texts []string) string {
	var l list
	for _, t := range texts {
		l.bytes([]byte(t))
	}
	return l.String()
}

// parseID reads a uuid as PostgreSQL shows it.
func parseID(text string) (id outbox.ID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("ID %q: %w", text, outbox.ErrCorrupt)
	}
	copy(id[:], b)
	return id, nil
}

// uuidOf shows an ID as PostgreSQL reads a uuid.
func uuidOf(id outbox.ID) string { return hex.EncodeToString(id[:]) }

// Headers and histories are bytea: uvarint lengths and bytes, since they may be any
// bytes. An empty one is NULL.

func packHeaders(headers map[string]string) (b []byte) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		b = packText(packText(b, name), headers[name])
	}
	return b
}

func unpackHeaders(b []byte) (headers map[string]string, err error) {
	for len(b) > 0 {
		var name, value string
		if name, b, err = unpackText(b); err != nil {
			return nil, err
		}
		if value, b, err = unpackText(b); err != nil {
			return nil, err
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[name] = value
	}
	return headers, nil
}

func packFailures(failures []outbox.Failure) (b []byte) {
	for _, f := range failures {
		b = binary.AppendVarint(b, f.At.Unix())
		b = binary.AppendVarint(b, int64(f.At.Nanosecond()))
		b = binary.AppendVarint(b, int64(f.Attempt))
		b = packText(b, f.Error)
	}
	return b
}

func unpackFailures(b []byte) (failures []outbox.Failure, err error) {
	for len(b) > 0 {
		var n [3]int64
		for i := range n {
			v, size := binary.Varint(b)
			if size <= 0 {
				return nil, fmt.Errorf("history: %w", outbox.ErrCorrupt)
			}
			n[i], b = v, b[size:]
		}
		f := outbox.Failure{At: time.Unix(n[0], n[1]).UTC(), Attempt: int(n[2])}
		if f.Error, b, err = unpackText(b); err != nil {
			return nil, err
		}
		failures = append(failures, f)
	}
	return failures, nil
}

func packText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func unpackText(b []byte) (s string, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return "", nil, fmt.Errorf("text: %w", outbox.ErrCorrupt)
	}
	b = b[size:]
	return string(b[:n]), b[n:], nil
}

// high are the first 64 bits of an ID, as a sequence counts them.
func high(id outbox.ID) int64 { return int64(binary.BigEndian.Uint64(id[:8])) }

// micros is a duration as PostgreSQL counts, rounded up: nothing comes too early.
func micros(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Microsecond) + 1
}

// microsLeft is micros of what may be over, for so long.
func microsLeft(d time.Duration) int64 {
	if d < 0 {
		return int64(d / time.Microsecond)
	}
	return micros(d)
}
