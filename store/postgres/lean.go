package postgres

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// Bounds of what one statement accepts: of a call that may go that way, and of the calls that
// go together. What is larger takes the way on which its caller's context can interrupt it.
const (
	leanEvents, leanBytes   = 4096, 1 << 20
	groupEvents, groupBytes = 1000, 1 << 20
)

// Columns of acceptSQL that calls bring as arrays, in the order of its parameters, behind those that are made when
// the calls that go together are known.
const (
	leanName = iota
	leanHeaders
	leanContentType
	leanMaxAttempts
	leanDelay
	leanTTL
	leanPriority
	leanKeyPolicy
	leanRetryBase
	leanRetryMax
	leanLease
	leanLists
)

// lean is a batch of which nothing depends on what else is in the store: no Key, no Unique or LatestOnly
// key, no ID given, no quota. It is encoded, so it shares no memory with the caller.
type lean struct {
	lists  [leanLists]list
	blob   []byte
	sizes  []int
	random []byte // six bytes for each
	ledger ledger
	leased bool // some are claimed at once
}

// leanOf returns a batch as a lean one, or nil if it is none. What is odd is not, either: it is
// refused, or not, on the longer way. Claims at once last so long at most; 0: there are none.
func (s *Store) leanOf(b *batch, lease time.Duration) *lean {
	if len(b.presets)+len(b.uniques)+len(b.latests)+len(b.keys) > 0 || s.quota > 0 || len(b.tasks) > leanEvents {
		return nil
	}
	size := 0
	for i := range b.tasks {
		t := &b.tasks[i]
		size += len(t.Payload)
		// Beyond a century the server's arithmetic, in double precision, is not ours.
		if t.Attempts != 0 || len(t.Failures) > 0 || t.UniqueFor > 0 || max(t.Delay, t.TTL) > century || size > leanBytes {
			return nil
		}
	}
	l := &lean{blob: make([]byte, 0, size), sizes: make([]int, len(b.tasks)), random: make([]byte, 6*len(b.tasks))}
	rand.Read(l.random) // never fails, says crypto/rand
	for i := range b.tasks {
		l.add(i, &b.tasks[i], lease)
	}
	return l
}

const century = 100 * 365 * 24 * time.Hour

func (l *lean) add(i int, t *outbox.Task, longest time.Duration) {
	l.blob, l.sizes[i] = append(l.blob, t.Payload...), len(t.Payload)
	l.lists[leanName].bytes([]byte(t.Name))
	l.lists[leanHeaders].text(string(packHeaders(t.Headers)))
	l.lists[leanContentType].bytes([]byte(t.ContentType))
	l.lists[leanMaxAttempts].int(int64(t.MaxAttempts))
	l.lists[leanDelay].int(micros(t.Delay))
	l.lists[leanTTL].int(micros(t.TTL))
	l.lists[leanPriority].int(int64(classOf(t.Priority)))
	l.lists[leanKeyPolicy].int(int64(min(t.KeyPolicy, outbox.ParkWholeKey)))
	l.lists[leanRetryBase].int(int64(t.RetryBase))
	l.lists[leanRetryMax].int(int64(t.RetryMax))
	st, lease := outbox.Waiting, int64(0)
	if claimedAtOnce(t) && longest > 0 {
		st, lease, l.leased = outbox.InFlight, micros(min(t.Lease, longest)), true
	}
	l.lists[leanLease].int(lease)
	l.ledger.accepted++
	l.ledger.at(st, int(classOf(t.Priority)), 1)
}

// claimedAtOnce reports whether a lean task is claimed in the step that accepts it.
func claimedAtOnce(t *outbox.Task) bool { return t.Lease > 0 && t.Delay <= 0 }

// join adds another one.
func (l *lean) join(o *lean) {
	for i := range l.lists {
		l.lists[i].next()
		l.lists[i].b = append(l.lists[i].b, o.lists[i].b[1:]...) // behind the brace
	}
	l.blob, l.sizes, l.random = append(l.blob, o.blob...), append(l.sizes, o.sizes...), append(l.random, o.random...)
	l.ledger.add(o.ledger)
	l.leased = l.leased || o.leased
}

// acceptSQL writes lean events and counts them, if the row of the ledger is as the owner has
// left it; otherwise it does nothing. All are given the same 64 bits first in their IDs, which are the new call
// of the row, and are told apart, in their order, by the rest. It reads one row and waits for
// nothing, and as it is a transaction of its own, none is ever left open. Other instances are notified
// if there is a channel.
const acceptSQL = `
WITH slot AS (
	UPDATE goutbox_ledger SET accepted = accepted + $1, high = high + $2, normal = normal + $3, low = low + $4,
		in_flight = in_flight + $5, call = goutbox_next(0)
	WHERE id = $23 AND call = $24
	RETURNING call, clock_timestamp() AS now
), given AS MATERIALIZED (
	SELECT call, now, CASE WHEN $25::boolean THEN nextval('goutbox_tokens') ELSE 0 END AS token FROM slot
), ` + writtenSQL

// acceptInSQL is acceptSQL in a transaction of the application, which counts in a row of its own.
const acceptInSQL = `
WITH counted AS (
	INSERT INTO goutbox_ledger (` + ledgerColumns + `) VALUES ($1, 0, 0, 0, 0, 0, 0, $2, $3, $4, $5, 0)
), given AS MATERIALIZED (
	SELECT goutbox_next(0) AS call, clock_timestamp() AS now, 0::bigint AS token
), ` + writtenSQL

// writtenSQL writes lean events once call, now and token are given.
const writtenSQL = `written AS (
	INSERT INTO goutbox_tasks (id, name, headers, content_type, payload, created_at, state, head, attempts, max_attempts,
		due_at, expires_at, unique_for, priority, key_policy, retry_base, retry_max, token, lease_end, owner)
	SELECT (lpad(to_hex(call), 16, '0') || low)::uuid, name, headers, content_type, substr($7::bytea, place, size), now,
		CASE WHEN lease > 0 THEN 1 ELSE 0 END, true, 0, max_attempts, now + delay * interval '1 microsecond',
		CASE WHEN ttl > 0 THEN now + ttl * interval '1 microsecond' END, 0, priority, key_policy, retry_base, retry_max,
		CASE WHEN lease > 0 THEN token ELSE 0 END, CASE WHEN lease > 0 THEN now + lease * interval '1 microsecond' END,
		CASE WHEN lease > 0 THEN $6::bigint END
	FROM given, unnest($8::text[], $9::integer[], $10::integer[], $11::bytea[], $12::bytea[], $13::bytea[], $14::integer[],
		$15::bigint[], $16::bigint[], $17::smallint[], $18::smallint[], $19::bigint[], $20::bigint[], $21::bigint[])
		AS u(low, place, size, name, headers, content_type, max_attempts, delay, ttl, priority, key_policy, retry_base, retry_max, lease)
)
SELECT call, now, token, CASE WHEN $22::text <> '' THEN pg_notify($22::text, '')::text END FROM given`

// acceptArgs are the parameters of acceptInSQL, and the first ones of acceptSQL.
func (s *Store) acceptArgs(l *lean) []any {
	var lows, places, sizes list
	place := 1
	for i, size := range l.sizes {
		lows.next()
		lows.b = hex.AppendEncode(lows.b, l.low(i, i))
		places.int(int64(place))
		sizes.int(int64(size))
		place += size
	}
	channel := ""
	if s.listener != nil {
		channel = s.channel()
	}
	args := make([]any, 0, 14+leanLists)
	args = append(args, l.ledger.accepted, l.ledger.high, l.ledger.normal, l.ledger.low, l.ledger.inFlight,
		s.owner, l.blob, lows.String(), places.String(), sizes.String())
	for i := range l.lists {
		args = append(args, l.lists[i].String())
	}
	return append(args, channel)
}

// low is the second half of the ID of an event, which is the place-th of those that go together: its place,
// for the order, and a random rest.
func (l *lean) low(i, place int) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(place)), l.random[6*i:6*i+6]...)
}

// given is what the server has given to lean events.
type given struct {
	call  int64 // the first 64 bits of their IDs
	now   time.Time
	token int64 // 0: none was claimed
}

// made says what became of the events of a batch, of which the first is the place-th of those that went together.
func (l *lean) made(b *batch, g given, place int) {
	b.made = make([]made, len(b.tasks))
	for i := range b.tasks {
		t, m := &b.tasks[i], &b.made[i]
		binary.BigEndian.PutUint64(m.id[:8], uint64(g.call))
		copy(m.id[8:], l.low(i, place+i))
		m.created, m.due, m.head = g.now, g.now.Add(time.Duration(micros(t.Delay))*microsecond), true
		if ttl := micros(t.TTL); ttl > 0 {
			m.expires = g.now.Add(time.Duration(ttl) * microsecond)
		}
		if claimedAtOnce(t) && g.token != 0 {
			m.state, m.token = outbox.InFlight, g.token
		}
	}
}
