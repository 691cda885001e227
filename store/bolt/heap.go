package bolt

// heap is a binary heap of entries. Each entry knows its index, so that one in the
// middle can be removed.
type heap struct {
	list   []*entry
	before func(a, b *entry) bool
	index  func(*entry) *int
}

// newReady orders tasks by the time they have to be looked at, then by ID.
func newReady() heap {
	return heap{
		before: func(a, b *entry) bool {
			if a.when != b.when {
				return a.when < b.when
			}
			return a.id.Compare(b.id) < 0
		},
		index: func(e *entry) *int { return &e.at },
	}
}

// newLatest is newReady the other way round.
func newLatest() heap {
	h := newReady()
	before := h.before
	h.before = func(a, b *entry) bool { return before(b, a) }
	return h
}

// newLeases orders claimed tasks by the end of their lease.
func newLeases() heap {
	return heap{
		before: func(a, b *entry) bool { return a.leaseEnd < b.leaseEnd },
		index:  func(e *entry) *int { return &e.leasedAt },
	}
}

// top returns the first entry, or nil.
func (h *heap) top() *entry {
	if len(h.list) == 0 {
		return nil
	}
	return h.list[0]
}

func (h *heap) push(e *entry) {
	h.list = append(h.list, e)
	h.up(h.set(len(h.list)-1, e))
}

// remove takes e out; it must be in.
func (h *heap) remove(e *entry) {
	i, last := *h.index(e), len(h.list)-1
	moved := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	*h.index(e) = -1
	if i < last {
		h.set(i, moved)
		h.down(i)
		h.up(i)
	}
}

// sweep takes out all that are leaving.
func (h *heap) sweep() {
	kept := h.list[:0]
	for _, e := range h.list {
		if e.leaving {
			*h.index(e) = -1
			continue
		}
		*h.index(e) = len(kept)
		kept = append(kept, e)
	}
	if len(kept) == len(h.list) {
		return
	}
	clear(h.list[len(kept):])
	h.list = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *heap) set(i int, e *entry) int {
	h.list[i] = e
	*h.index(e) = i
	return i
}

func (h *heap) up(i int) {
	for e := h.list[i]; i > 0; {
		parent := (i - 1) / 2
		if !h.before(e, h.list[parent]) {
			return
		}
		h.set(i, h.list[parent])
		i = h.set(parent, e)
	}
}

func (h *heap) down(i int) {
	for e := h.list[i]; ; {
		child := 2*i + 1
		if child >= len(h.list) {
			return
		}
		if child+1 < len(h.list) && h.before(h.list[child+1], h.list[child]) {
			child++
		}
		if !h.before(h.list[child], e) {
			return
		}
		h.set(i, h.list[child])
		i = h.set(child, e)
	}
}
