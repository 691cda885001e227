package bolt

import (
	"hash/maphash"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// full reports whether the window has as much as memory is to hold.
func (w *window) full() bool { return len(w.tasks)+len(w.dead) >= windowTasks }

// addDead adds a dead letter, all before which are there already.
func (w *window) addDead(at *stream, l *loaded) {
	in := indexed{id: at.id, page: at.page, offset: at.offset, bad: l.bad != nil}
	if !in.bad && l.header.parksFor(l.reason) {
		in.key = hashKey(l.header.key)
	}
	if w.dead = append(w.dead, in); w.full() {
		w.close(at.id)
	}
}

// closeDead holds the dead letters of the window against the parked bucket.
func (w *window) closeDead() {
	for p := range w.v.pairs(bucketParked) {
		w.parked(p)
	}
	for i := range w.dead {
		if in := &w.dead[i]; in.key != 0 && !in.listed {
			w.v.bad(pair{page: in.page, offset: in.offset}, bucketDead, in.id, "it parks its key, but is not listed as such")
		}
	}
}

// parked checks an entry of the parked bucket.
func (w *window) parked(p pair) {
	key, id, ok := keyAndID(p.k)
	switch {
	case !ok && w.first:
		w.v.bad(p, bucketParked, outbox.ID{}, "a key of %d bytes", len(p.k))
		return
	case !ok, !w.has(id):
		return
	}
	i, found := slices.BinarySearchFunc(w.dead, id, func(in indexed, id outbox.ID) int { return in.id.Compare(id) })
	switch {
	case len(p.v) != 0:
		w.v.bad(p, bucketParked, id, "%d bytes where there are none", len(p.v))
	case !found:
		w.v.bad(p, bucketParked, id, "it parks key %q, but is not dead", key)
	case w.dead[i].bad:
	case w.dead[i].key != hashKey(string(key)):
		w.v.bad(p, bucketParked, id, "it is listed as parking key %q, which it does not", key)
	default:
		w.dead[i].listed = true
	}
}

// spent checks the Unique keys that are taken after a delivery. Each is there twice, by key
// and by time; the hashes of both lists must have one sum.
func (v *verifier) spent() {
	var byKey, byTime, keys, times uint64
	sum := func(until int64, key []byte) uint64 { return maphash.Bytes(hashSeed, spentWhen(until, key)) }
	for p := range v.pairs(bucketSpent) {
		if len(p.k) > 0 && p.k[0] == 'k' {
			until, err := readSpent(p.k, p.v)
			if err != nil {
				v.wrong(p, bucketSpent, outbox.ID{}, err)
				continue
			}
			keys++
			byKey += sum(until, p.k[1:])
			continue
		}
		until, key, ok := spentOf(p.k)
		if !ok || len(p.v) != 0 {
			v.bad(p, bucketSpent, outbox.ID{}, "a key of %d bytes, a value of %d", len(p.k), len(p.v))
			continue
		}
		times++
		byTime += sum(until, key)
	}
	if byKey != byTime {
		v.bad(pair{}, bucketSpent, outbox.ID{}, "%d keys are taken, of which %d are listed by time, or others", keys, times)
	}
}
