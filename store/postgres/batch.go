package postgres

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// maxBatchBytes bounds the payloads of one Create: PostgreSQL takes a gigabyte at most.
const maxBatchBytes = 256 << 20

// batch is the input of one Create, as the parameters of insertSQL, and what became of it.
type batch struct {
	tasks    []outbox.Task
	replaced []bool // by a later one of the same batch
	presets  []outbox.ID
	uniques  []string
	latests  []string
	keys     []string
	sole     []outbox.Task // with a preset ID and a LatestOnly key
	above    uint64        // the first 64 bits of the highest preset ID; 0 = there is none

	made []made
	at   time.Time // due then, not after its delay: of a gap
}

// made is what the store has decided about one task.
type made struct {
	id      outbox.ID
	created time.Time
	due     time.Time
	expires time.Time
	state   outbox.State
	token   int64
	head    bool
}

// newBatch looks at what Create was given, and refuses what can not be accepted whatever
// is there already.
func newBatch(tasks []outbox.Task) (*batch, error) {
	b := &batch{tasks: tasks, replaced: make([]bool, len(tasks))}
	ids, uniques, keys := map[outbox.ID]bool{}, map[string]bool{}, map[string]bool{}
	latest := map[string]int{}
	for i := range tasks {
		t := &tasks[i]
		if !t.ID.IsZero() {
			if ids[t.ID] {
				return nil, fmt.Errorf("task %d: ID %s: %w", i, t.ID, outbox.ErrDuplicate)
			}
			if t.ID.Time() > outbox.MaxIDTime {
				return nil, fmt.Errorf("task %d: no ID is left above %s: %w", i, t.ID, outbox.ErrInvalid)
			}
			ids[t.ID], b.above = true, max(b.above, uint64(high(t.ID)))
			b.presets = append(b.presets, t.ID)
		}
		if t.Unique != "" {
			if uniques[t.Unique] {
				return nil, fmt.Errorf("task %d: unique key %q: %w", i, t.Unique, outbox.ErrDuplicate)
			}
			uniques[t.Unique] = true
			b.uniques = append(b.uniques, t.Unique)
		}
		if t.Key != "" && !keys[t.Key] {
			keys[t.Key] = true
			b.keys = append(b.keys, t.Key)
		}
		if t.LatestOnly != "" {
			if older, ok := latest[t.LatestOnly]; ok {
				// One that gets its ID from the store gets one above all that are given here.
				if o := tasks[older].ID; !t.ID.IsZero() && (o.IsZero() || o.Compare(t.ID) > 0) {
					return nil, fmt.Errorf("task %d: latest only key %q has a newer one than %s: %w", i, t.LatestOnly, t.ID, outbox.ErrDuplicate)
				}
				b.replaced[older] = true
			} else {
				b.latests = append(b.latests, t.LatestOnly)
			}
			if latest[t.LatestOnly] = i; !t.ID.IsZero() {
				b.sole = append(b.sole, *t)
			}
		}
	}
	return b, tooLarge(tasks)
}

// tooLarge refuses payloads that are too large together, or returns nil.
func tooLarge(tasks []outbox.Task) error {
	size := 0
	for i := range tasks {
		size += len(tasks[i].Payload)
	}
	if size > maxBatchBytes {
		return fmt.Errorf("payloads of %d bytes, the limit for one call is %d: %w", size, maxBatchBytes, outbox.ErrTooLarge)
	}
	return nil
}

// classOf is the priority that the store goes by: the nearest that there is.
func classOf(p outbox.Priority) outbox.Priority { return min(max(p, outbox.Low), outbox.High) }

// stays is how many of the batch are not replaced by others of it.
func (b *batch) stays() (n int64) {
	for _, gone := range b.replaced {
		if !gone {
			n++
		}
	}
	return n
}

// args are the payloads, and what else a task has as an array each: see insertSQL.
func (b *batch) args(lease time.Duration) (blob []byte, lists []any) {
	var l [21]list
	random := make([]byte, 8*len(b.tasks))
	rand.Read(random) // never fails, says crypto/rand
	for i := range b.tasks {
		t := &b.tasks[i]
		if t.ID.IsZero() {
			l[0].null()
		} else {
			l[0].id(t.ID)
		}
		l[1].next()
		l[1].b = hex.AppendEncode(l[1].b, random[8*i:8*i+8])
		l[2].bytes([]byte(t.Name))
		l[3].text(t.Key)
		l[4].text(string(packHeaders(t.Headers)))
		l[5].bytes([]byte(t.ContentType))
		l[6].int(int64(len(blob)) + 1)
		l[7].int(int64(len(t.Payload)))
		blob = append(blob, t.Payload...)
		l[8].int(int64(t.Attempts))
		l[9].int(int64(t.MaxAttempts))
		l[10].int(micros(t.Delay))
		l[11].int(micros(t.TTL))
		l[12].text(t.Unique)
		l[13].int(int64(max(t.UniqueFor, 0)))
		l[14].text(t.LatestOnly)
		l[15].int(int64(classOf(t.Priority)))
		l[16].int(int64(min(t.KeyPolicy, outbox.ParkWholeKey)))
		l[17].text(string(packFailures(t.Failures)))
		l[18].int(int64(t.RetryBase))
		l[19].int(int64(t.RetryMax))
		own := int64(0)
		if t.Lease > 0 {
			own = micros(min(t.Lease, lease))
		}
		if b.replaced[i] {
			own = -1
		}
		l[20].int(own)
	}
	if blob == nil {
		blob = []byte{}
	}
	for i := range l {
		lists = append(lists, l[i].String())
	}
	return blob, lists
}

// fill tells the caller what the store has decided.
func (b *batch) fill() {
	for i, m := range b.made {
		t := &b.tasks[i]
		t.ID, t.CreatedAt, t.DueAt, t.ExpiresAt = m.id, m.created, m.due, m.expires
		t.State, t.Reason, t.Token, t.Attempt = m.state, "", uint64(m.token), 0
		t.Priority = classOf(t.Priority)
		t.KeyPolicy = min(t.KeyPolicy, outbox.ParkWholeKey)
		if t.State == outbox.InFlight {
			t.Attempt = t.Attempts + 1
		}
	}
}
