package bolt

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// A task's encoding, version 2. It is the same in the log and in the database,
// written once and never changed: what changes lives in the schedule. All
// integers of the fixed part are little-endian; text is a uvarint length and the
// bytes.
//
//	offset  size
//	     0     1  version, 3
//	     1    16  ID
//	    17     8  created: wall clock, Unix nanoseconds
//	    25     8  accepted: store clock, Unix nanoseconds
//	    33     8  due first: store clock, Unix nanoseconds
//	    41     8  expires: store clock, Unix nanoseconds; 0 = never
//	    49     4  most attempts
//	    53     1  manner: priority + 1 (bits 0 and 1), key policy (2 and 3), more (4), crowd (5), content (6 and 7)
//	    54     .  name, key, content type, unique, latest only
//	     .     .  if more: unique for, first and longest pause of its own backoff: uvarint nanoseconds
//	     .     .  number of headers, then name and value of each, sorted by name
//	     .     .  payload
//
// crowd is set by the store if the task does not wait in the queue of its name: see
// assign. content stands for a content type that nearly every event has, in place of its
// text: see contentTypes. Version 1 had no manner and nothing that follows from it, version
// 2 no content; both are still read.
const (
	taskVersion = 3
	atID        = 1
	atCreated   = 17
	atAccepted  = 25
	atDue       = 33
	atExpires   = 41
	atMost      = 49
	atManner    = 53
	taskFixed   = 54
	taskFixed1  = 53 // of version 1

	mannerMore  = 1 << 4
	mannerCrowd = 1 << 5

	contentShift   = 6
	contentVersion = 3 // the first with content
)

// manner is the byte that says how a task is treated.
func manner(t *outbox.Task) byte {
	m := byte(t.Priority+1) | byte(t.KeyPolicy)<<2 | contentOf(t.ContentType)<<contentShift
	if t.UniqueFor > 0 || t.RetryBase > 0 || t.RetryMax > 0 {
		m |= mannerMore
	}
	return m
}

// appendTask appends t's encoding to b. ID and times are still missing: stamp
// sets them once the store knows them.
func appendTask(b []byte, t *outbox.Task) []byte {
	b = append(b, taskVersion)
	b = append(b, make([]byte, atMost-atID)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(t.MaxAttempts))
	m, content := manner(t), t.ContentType
	b = append(b, m)
	if m>>contentShift != 0 {
		content = ""
	}
	for _, s := range [...]string{t.Name, t.Key, content, t.Unique, t.LatestOnly} {
		b = appendText(b, s)
	}
	if m&mannerMore != 0 {
		for _, d := range [...]time.Duration{t.UniqueFor, t.RetryBase, t.RetryMax} {
			b = binary.AppendUvarint(b, uint64(max(d, 0)))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.Headers)))
	if len(t.Headers) > 0 {
		names := make([]string, 0, len(t.Headers))
		for name := range t.Headers {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			b = appendText(appendText(b, name), t.Headers[name])
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.Payload)))
	return append(b, t.Payload...)
}

// taskSize returns how many bytes appendTask needs for t, or a few more.
func taskSize(t *outbox.Task) int {
	n := taskFixed + uvarintSize(len(t.Headers)) + uvarintSize(len(t.Payload)) + len(t.Payload)
	for _, s := range [...]string{t.Name, t.Key, t.ContentType, t.Unique, t.LatestOnly} {
		n += uvarintSize(len(s)) + len(s)
	}
	for name, value := range t.Headers {
		n += len(name) + len(value) + 2*binary.MaxVarintLen32
	}
	if manner(t)&mannerMore != 0 {
		n += 3 * binary.MaxVarintLen64
	}
	return n
}

// uvarintSize is how many bytes a length takes.
func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// stamp writes into an encoded task what the store decides when it accepts it.
func stamp(raw []byte, id outbox.ID, created, accepted, due, expires int64) {
	copy(raw[atID:], id[:])
	binary.LittleEndian.PutUint64(raw[atCreated:], uint64(created))
	binary.LittleEndian.PutUint64(raw[atAccepted:], uint64(accepted))
	binary.LittleEndian.PutUint64(raw[atDue:], uint64(due))
	binary.LittleEndian.PutUint64(raw[atExpires:], uint64(expires))
}

// header is the part of a task that the store itself works with.
type header struct {
	id      outbox.ID
	created int64
	due     int64
	expires int64
	queue   queueName
	key     string
	unique  string
	latest  string
	parks   bool  // its key, should it die: see park.go
	spends  int64 // how long its Unique key stays taken after the delivery: see spent.go
	payload int   // its size
	gap     bool  // it tells of a gap
	cost    int64 // of the whole task: see usage.go
}

// decodeHeader reads the store's part of an encoded task.
func decodeHeader(raw []byte) (header, error) {
	t, payload, err := parseTask(raw, false)
	if err != nil {
		return header{}, err
	}
	queue := queueOf(raw, &t)
	return header{
		parks: parks(&t), spends: spends(&t),
		id: t.ID, queue: queue, created: int64(binary.LittleEndian.Uint64(raw[atCreated:])),
		due: firstDue(raw), expires: expiry(raw), key: t.Key,
		unique: t.Unique, latest: t.LatestOnly, payload: payload, gap: t.Name == outbox.GapName,
		cost: costOf(len(raw), placeCost(queue, t.Name), t.Key, t.Unique, t.LatestOnly),
	}, nil
}

// parks reports whether the task's death parks its key.
func parks(t *outbox.Task) bool { return t.Key != "" && t.KeyPolicy == outbox.ParkWholeKey }

// spends returns how long the task's Unique key stays taken after the delivery.
func spends(t *outbox.Task) int64 {
	if t.Unique == "" {
		return 0
	}
	return int64(max(t.UniqueFor, 0))
}

func acceptedAt(raw []byte) int64 { return int64(binary.LittleEndian.Uint64(raw[atAccepted:])) }
func firstDue(raw []byte) int64   { return int64(binary.LittleEndian.Uint64(raw[atDue:])) }
func expiry(raw []byte) int64     { return int64(binary.LittleEndian.Uint64(raw[atExpires:])) }

// decodeTask reads an encoded task. Nothing in the result aliases raw.
func decodeTask(raw []byte) (outbox.Task, error) {
	t, _, err := parseTask(raw, true)
	return t, err
}

// parseTask is decodeTask, and says how large the payload is. Without whole,
// headers and payload are checked but left out.
func parseTask(raw []byte, whole bool) (t outbox.Task, size int, err error) {
	fixed := fixedSize(raw)
	if len(raw) < taskFixed1 || len(raw) < fixed {
		return t, 0, fmt.Errorf("%w: task of %d bytes", outbox.ErrCorrupt, len(raw))
	}
	if raw[0] < 1 || raw[0] > taskVersion {
		return t, 0, fmt.Errorf("%w: task version %d", outbox.ErrVersion, raw[0])
	}
	copy(t.ID[:], raw[atID:])
	t.CreatedAt = wall(int64(binary.LittleEndian.Uint64(raw[atCreated:])))
	t.DueAt = wall(firstDue(raw))
	if at := expiry(raw); at != 0 {
		t.ExpiresAt = wall(at)
	}
	t.MaxAttempts = int(binary.LittleEndian.Uint32(raw[atMost:]))
	r := reader{b: raw[fixed:]}
	var texts [5][]byte
	for i := range texts {
		texts[i] = r.bytes()
	}
	content := mannerOf(raw) >> contentShift
	r.bad = r.bad || content != 0 && (raw[0] < contentVersion || int(content) >= len(contentTypes) || len(texts[2]) > 0)
	r.manner(&t, mannerOf(raw)&(1<<contentShift-1))
	headers := r.b
	count := r.uvarint()
	if count > uint64(len(r.b)) {
		r.bad = true
	}
	for i := uint64(0); i < 2*count && !r.bad; i++ {
		r.bytes()
	}
	payload := r.bytes()
	if r.bad || len(r.b) != 0 {
		return t, 0, fmt.Errorf("%w: task %s: lengths do not add up", outbox.ErrCorrupt, t.ID)
	}
	t.Name, t.Key, t.ContentType = string(texts[0]), string(texts[1]), contentTypes[content]
	if content == 0 {
		t.ContentType = contentType(texts[2])
	}
	t.Unique, t.LatestOnly = string(texts[3]), string(texts[4])
	if !whole {
		return t, len(payload), nil
	}
	if count > 0 {
		t.Headers = decodeHeaders(headers)
	}
	t.Payload = append(make([]byte, 0, len(payload)), payload...)
	return t, len(payload), nil
}

// fixedSize returns how long the part before the texts is.
func fixedSize(raw []byte) int {
	if len(raw) > 0 && raw[0] == 1 {
		return taskFixed1
	}
	return taskFixed
}

// mannerOf returns the manner of an encoded task of any version.
func mannerOf(raw []byte) byte {
	if fixedSize(raw) == taskFixed1 {
		return byte(outbox.Normal + 1)
	}
	return raw[atManner]
}

// manner reads what follows from a task's manner.
func (r *reader) manner(t *outbox.Task, m byte) {
	t.Priority, t.KeyPolicy = outbox.Priority(m&3)-1, outbox.KeyPolicy(m>>2&3)
	if r.bad = r.bad || t.Priority > outbox.High || t.KeyPolicy > outbox.ParkWholeKey || m > mannerCrowd|mannerMore|15; m&mannerMore == 0 {
		return
	}
	for _, d := range [...]*time.Duration{&t.UniqueFor, &t.RetryBase, &t.RetryMax} {
		n := r.uvarint()
		r.bad = r.bad || n > math.MaxInt64
		*d = time.Duration(n)
	}
}

// decodeHeaders reads headers that were checked before.
func decodeHeaders(b []byte) map[string]string {
	r := reader{b: b}
	count := int(r.uvarint())
	m := make(map[string]string, count)
	for range count {
		name := string(r.bytes())
		m[name] = string(r.bytes())
	}
	return m
}

// schedule is the part of a task that changes: when it is due, what was tried.
type schedule struct {
	due      int64 // store clock, Unix nanoseconds
	attempts int
	failures []outbox.Failure // never changed in place
	stale    bool             // a newer task has taken its LatestOnly key while it was in flight
}

// appendSchedule appends the encoding of s: flags (1: stale), due, attempts, number
// of failures, then wall clock, attempt and text of each.
func appendSchedule(b []byte, s *schedule) []byte {
	var flags byte
	if s.stale {
		flags = 1
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.due))
	b = binary.AppendUvarint(b, uint64(s.attempts))
	b = binary.AppendUvarint(b, uint64(len(s.failures)))
	for _, f := range s.failures {
		b = appendFailure(b, f)
	}
	return b
}

func appendFailure(b []byte, f outbox.Failure) []byte {
	at := noTime
	if !f.At.IsZero() {
		at = nanos(f.At)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = binary.AppendUvarint(b, uint64(f.Attempt))
	return appendText(b, f.Error)
}

// noTime stands for the zero time, which has no Unix nanoseconds.
const noTime = int64(-1 << 63)

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes values off the front of b; once something does not fit it is bad,
// and returns zeros. Lengths are checked before anything is sliced or allocated
// (R16).
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) int64() int64 {
	if v := r.take(8); v != nil {
		return int64(binary.LittleEndian.Uint64(v))
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(n)
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) id() (id outbox.ID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) failure() outbox.Failure {
	return outbox.Failure{At: wall(r.int64()), Attempt: int(r.uvarint()), Error: string(r.bytes())}
}

func (r *reader) schedule() schedule {
	flags := r.byte()
	r.bad = r.bad || flags > 1
	s := schedule{stale: flags == 1, due: r.int64(), attempts: int(r.uvarint())}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		s.failures = append(s.failures, r.failure())
	}
	return s
}
