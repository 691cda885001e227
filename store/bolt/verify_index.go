package bolt

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// windowTasks is how many tasks are held against the indexes at once: 25 MiB.
const windowTasks = 256 << 10

// indexed is what the indexes must say of a task.
type indexed struct {
	id                  outbox.ID
	when                int64
	queue               uint64 // hash
	key, unique, latest uint64 // hashes; 0 = none
	page                uint64
	offset              int64
	bad                 bool // its value is damaged: what the indexes should say is not known
	listed, inLine      bool
}

var hashSeed = maphash.MakeSeed()

func hashKey(key string) uint64 {
	if key == "" {
		return 0
	}
	return maphash.String(hashSeed, key) | 1
}

// window is a run of tasks in the order of IDs: all after the one before, up to last.
type window struct {
	v           *verifier
	tasks       []indexed
	dead        []indexed // of which key is 0 if they park none
	after, last outbox.ID
	first       bool
	spots       []spot
}

func (w *window) add(in indexed) { w.tasks = append(w.tasks, in) }

// has reports whether a task with this ID would be in the window.
func (w *window) has(id outbox.ID) bool {
	return (w.first || id.Compare(w.after) > 0) && id.Compare(w.last) <= 0
}

func (w *window) find(id outbox.ID) *indexed {
	i, ok := slices.BinarySearchFunc(w.tasks, id, func(in indexed, id outbox.ID) int { return in.id.Compare(id) })
	if !ok {
		return nil
	}
	return &w.tasks[i]
}

// close holds the window against the indexes and begins the next one.
func (w *window) close(last outbox.ID) {
	w.last = last
	var listed place
	for p := range w.v.pairs(bucketDue) {
		w.due(p, &listed)
	}
	keys := keyLine{window: w}
	for p := range w.v.pairs(bucketKeys) {
		keys.check(p)
	}
	for p := range w.v.pairs(bucketSole) {
		w.holder(p)
	}
	for i := range w.tasks {
		in := &w.tasks[i]
		at := pair{page: in.page, offset: in.offset}
		switch {
		case in.bad:
		case in.key == 0 && !in.listed:
			w.v.bad(at, bucketTasks, in.id, "it is not listed as due at %d", in.when)
		case in.key != 0 && !in.inLine:
			w.v.bad(at, bucketTasks, in.id, "it is not in the line of its key")
		}
	}
	w.closeDead()
	w.tasks, w.dead, w.after, w.first = w.tasks[:0], w.dead[:0], last, false
}

// due checks a key of the due bucket, and all places in its sheet. last is the place before.
func (w *window) due(p pair, last *place) {
	first, ok := placeOf(p.k)
	if !ok {
		if w.first {
			w.v.bad(p, bucketDue, outbox.ID{}, "a key of %d bytes", len(p.k))
		}
		return
	}
	spots, err := readSheet(w.spots[:0], p.k, p.v)
	w.spots = spots
	if w.first && err != nil {
		w.v.wrong(p, bucketDue, first.id, err)
	}
	if w.first && first.within(*last) {
		w.v.bad(p, bucketDue, first.id, "it is listed within the sheet before it")
	}
	for _, at := range spots {
		*last = place{first.queue, at}
		w.place(p, *last)
	}
}

// place checks a place of the due bucket. A former head of a key may be listed.
func (w *window) place(p pair, at place) {
	if !w.has(at.id) {
		return
	}
	in := w.find(at.id)
	switch {
	case in == nil:
		w.v.bad(p, bucketDue, at.id, "it is listed as due at %d, but does not wait", at.when)
	case in.bad:
	case in.when != at.when:
		w.v.bad(p, bucketDue, at.id, "it is listed as due at %d, but is due at %d", at.when, in.when)
	case in.queue != hashKey(string(at.queue.append(nil))):
		w.v.bad(p, bucketDue, at.id, "it is listed in queue %q of class %s, but is of another", at.queue.name, at.queue.class)
	default:
		in.listed = true
	}
}

// keyLine goes through the keys bucket: the first task of each key is its head, and
// must be listed as due, or a claim would never come upon the key.
type keyLine struct {
	*window
	before []byte
}

func (l *keyLine) check(p pair) {
	w := l.window
	key, id, ok := keyAndID(p.k)
	if !ok {
		if w.first {
			w.v.bad(p, bucketKeys, outbox.ID{}, "a key of %d bytes", len(p.k))
		}
		return
	}
	line := p.k[:len(p.k)-len(id)]
	head := !bytes.Equal(l.before, line)
	l.before = append(l.before[:0], line...)
	if !w.has(id) {
		return
	}
	in := w.find(id)
	switch {
	case len(p.v) != 0:
		w.v.bad(p, bucketKeys, id, "%d bytes where there are none", len(p.v))
	case in == nil:
		w.v.bad(p, bucketKeys, id, "it is in the line of key %q, but does not wait", key)
	case in.bad:
	case in.key != hashKey(string(key)):
		w.v.bad(p, bucketKeys, id, "it is in the line of key %q, but has another", key)
	case head && !in.listed:
		w.v.bad(p, bucketKeys, id, "it is the head of key %q, but is not listed as due", key)
		in.inLine = true
	default:
		in.inLine = true
	}
}

// holder checks who holds a Unique or LatestOnly key.
func (w *window) holder(p pair) {
	if len(p.v) != len(outbox.ID{}) || len(p.k) == 0 {
		if w.first {
			w.v.bad(p, bucketSole, outbox.ID{}, "%d bytes for %q", len(p.v), p.k)
		}
		return
	}
	id := outbox.ID(p.v)
	if !w.has(id) {
		return
	}
	in, key := w.find(id), hashKey(string(p.k[1:]))
	switch {
	case in == nil:
		w.v.bad(p, bucketSole, id, "it holds key %q, but does not wait", p.k)
	case in.bad:
	case p.k[0] == 'u' && in.unique == key, p.k[0] == 'l' && in.latest == key:
	default:
		w.v.bad(p, bucketSole, id, "it holds key %q, which is not its own", p.k)
	}
}
