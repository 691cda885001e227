package bolt

// White box: the encodings are not exported, and what they must survive are bytes
// that no store would write.

import (
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// sampleTask has something in every field.
func sampleTask() outbox.Task {
	return outbox.Task{
		Event: outbox.Event{
			Name: "order.created", Key: "customer 7", ContentType: "application/json", Payload: []byte(`{"total":12}`),
			Headers: map[string]string{"traceparent": "00-1-2-01", "empty": "", "": "unnamed"},
		},
		MaxAttempts: 5, Unique: "order 9", LatestOnly: "state",
		Priority: outbox.High, KeyPolicy: outbox.ParkWholeKey, UniqueFor: time.Hour, RetryBase: time.Second, RetryMax: time.Minute,
	}
}

func sampleRaw() []byte {
	t := sampleTask()
	raw := appendTask(nil, &t)
	stamp(raw, outbox.ID{1, 2, 3}, 1_000_000_007, 2_000_000_007, 3_000_000_007, 4_000_000_007)
	return raw
}

func sampleSchedule() schedule {
	return schedule{due: 42, attempts: 2, stale: true, failures: []outbox.Failure{
		{At: time.Unix(1, 5).UTC(), Attempt: 1, Error: "refused"}, {Attempt: 2},
	}}
}

func TestTask_RoundTrip(t *testing.T) {
	want := sampleTask()
	raw := sampleRaw()
	require.LessOrEqual(t, len(raw), taskSize(&want))
	got, err := decodeTask(raw)
	require.NoError(t, err)
	want.ID = outbox.ID{1, 2, 3}
	want.CreatedAt, want.DueAt, want.ExpiresAt = time.Unix(1, 7).UTC(), time.Unix(3, 7).UTC(), time.Unix(4, 7).UTC()
	require.Equal(t, want, got)

	got.Payload[0], raw[len(raw)-1] = 'x', 'y'
	again, err := decodeTask(sampleRaw())
	require.NoError(t, err)
	require.Equal(t, want.Payload, again.Payload, "nothing is shared")
}

// Every prefix of a task, and every task with a byte more, is refused (R16).
func TestTask_Cut(t *testing.T) {
	raw := sampleRaw()
	for n := range raw {
		_, err := decodeTask(raw[:n])
		require.ErrorIs(t, err, outbox.ErrCorrupt, "%d bytes", n)
	}
	_, err := decodeTask(append(raw, 0))
	require.ErrorIs(t, err, outbox.ErrCorrupt)
	raw[0] = taskVersion + 1
	_, err = decodeTask(raw)
	require.ErrorIs(t, err, outbox.ErrVersion)
}

func sampleRecord() []byte {
	s := sampleSchedule()
	rec := append(make([]byte, createPrefix), sampleRaw()...)
	return sealCreate(rec, outbox.ID{9}, outbox.ID{}, &s)
}

func sampleOps() []op {
	id, f := outbox.ID{4}, outbox.Failure{At: time.Unix(8, 8).UTC(), Attempt: 3, Error: "no"}
	u := outbox.Untold{
		Gap: outbox.Gap{Reason: outbox.ReasonQuota, Count: 1, First: id, Last: id, From: time.Unix(1, 2).UTC(), To: time.Unix(1, 2).UTC()},
		Due: time.Unix(5, 6).UTC(), Priority: outbox.High,
	}
	retold := u
	retold.Gap = outbox.Gap{Reason: outbox.ReasonExpired, Count: 300, First: outbox.ID{1}, Last: outbox.ID{2}, From: time.Unix(3, 0).UTC(), To: time.Unix(4, 0).UTC()}
	return []op{
		{kind: opDone, id: id},
		{kind: opRetry, id: id, clock: 6, due: 7, attempts: 3, failure: f},
		{kind: opBury, id: id, clock: 6, due: 7, attempts: 3, failure: f, reason: outbox.ReasonPermanent},
		{kind: opDrop, id: id, drop: dropQuota},
		{kind: opDrop, id: id, drop: dropQuota, lost: &u},
		{kind: opDrop, id: id, drop: dropQuota, wasDead: true, lost: &retold},
		{kind: opGaps, gaps: &gaps{{untold: u, last: id, cost: 7}, {last: outbox.ID{5}, cost: 300, open: true}}},
		{kind: opDrop, id: id, drop: dropDeleted, wasDead: true},
		{kind: opRequeue, id: id, clock: 11},
		{kind: opDamage, id: id},
		{kind: opDamage, id: id, wasDead: true},
		{kind: opBase, base: baseline{checkpoint: 3, since: ledger{accepted: 5, dead: -1, dropped: [4]int64{1, 2, 3, 4}}, lastID: id, clock: 12}},
	}
}

func TestOps_RoundTrip(t *testing.T) {
	var record []byte
	for _, o := range sampleOps() {
		record = o.append(record)
	}
	var got []op
	require.NoError(t, decodeOps(record, func(o op) error { got = append(got, o); return nil }))
	require.Equal(t, sampleOps(), got)

	got = nil
	require.NoError(t, decodeOps(sampleRecord(), func(o op) error { got = append(got, o); return nil }))
	require.Len(t, got, 1)
	require.Equal(t, sampleRaw(), got[0].raw)
	require.Equal(t, outbox.ID{9}, got[0].replaces)
	require.Equal(t, sampleSchedule(), *got[0].sched)
}

func TestOps_Cut(t *testing.T) {
	for _, o := range sampleOps() {
		record := o.append(nil)
		for n := 1; n < len(record); n++ {
			require.ErrorIs(t, decodeOps(record[:n], func(op) error { return nil }), outbox.ErrCorrupt, "kind %d, %d bytes", o.kind, n)
		}
	}
	require.ErrorIs(t, decodeOps(make([]byte, 100), func(op) error { return nil }), outbox.ErrCorrupt, "zeros are nothing")
}

func FuzzTask(f *testing.F) {
	f.Add(sampleRaw())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		task, err := decodeTask(raw)
		if err != nil {
			return
		}
		h, err := decodeHeader(raw)
		require.NoError(t, err)
		require.Equal(t, task.Key, h.key)
		again := appendTask(nil, &task)
		stamp(again, h.id, h.created, acceptedAt(raw), h.due, h.expires)
		back, err := decodeTask(again)
		require.NoError(t, err)
		require.Equal(t, task, back)
	})
}

func FuzzOps(f *testing.F) {
	f.Add(sampleRecord())
	for _, o := range sampleOps() {
		f.Add(o.append(nil))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		_ = decodeOps(record, func(o op) error {
			if o.kind == opCreate {
				return nil
			}
			return decodeOps(o.append(nil), func(op) error { return nil })
		})
	})
}

func FuzzDead(f *testing.F) {
	s := sampleSchedule()
	f.Add(appendDead(nil, sampleRaw(), &s, outbox.ReasonExhausted))
	f.Fuzz(func(t *testing.T, value []byte) {
		id := outbox.ID{1, 2, 3}
		l := loadDead(buckets{}, id, withCRC(id[:], append([]byte(nil), value...)))
		_, err := l.task()
		require.NoError(t, err, "a damaged one can be listed, too")
	})
}

// Whatever a value says: it is intact, or it can be listed as damaged, and costs the same
// wherever it is then.
func FuzzDamaged(f *testing.F) {
	f.Add(append([]byte{byte(homeTasks)}, sampleRaw()...))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) == 0 {
			return
		}
		from, v := homeTasks, value[1:]
		if value[0] == byte(homeDead) {
			from = homeDead
		}
		id := outbox.ID{1, 2, 3}
		task := damagedTask(id, from, v)
		require.Equal(t, id, task.ID)
		require.Equal(t, outbox.Dead, task.State)
		require.NotEmpty(t, task.Name)
		l := loadDamaged(id, append([]byte{byte(from)}, v...))
		require.Equal(t, from, l.from)
		require.Equal(t, string(v), string(l.raw))
		require.Equal(t, costOfDamaged(from, v), l.header.cost)
	})
}

// The two content types that nearly every event has cost nothing, others their text. What
// an earlier version would not have written is damage.
func TestTask_ContentType(t *testing.T) {
	size := func(contentType string) int {
		task := sampleTask()
		task.ContentType = contentType
		raw := appendTask(nil, &task)
		got, err := decodeTask(raw)
		require.NoError(t, err)
		require.Equal(t, contentType, got.ContentType)
		return len(raw)
	}
	bare := size("")
	require.Equal(t, bare, size("application/octet-stream"))
	require.Equal(t, bare, size("application/json"))
	require.Equal(t, bare+len("text/plain"), size("text/plain"))

	task := sampleTask()
	task.ContentType = "application/json"
	raw := appendTask(nil, &task)
	raw[0] = 2
	_, err := decodeTask(raw)
	require.ErrorIs(t, err, outbox.ErrCorrupt)
	raw[0] = taskVersion
	raw[atManner] |= 3 << contentShift
	_, err = decodeTask(raw)
	require.ErrorIs(t, err, outbox.ErrCorrupt)
}
