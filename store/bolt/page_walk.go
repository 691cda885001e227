package bolt

import (
	"bytes"
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// pageWalk goes through trees of pages, in the order of their keys. No page is
// visited twice, so it ends, whatever the pages say; what is wrong with a page is
// told, and the walk goes on with the next one.
type pageWalk struct {
	p    *pages
	seen bitmap // pages that belong to what was visited
	path [][]byte

	// wrong is told of damage; nil: nobody is.
	wrong func(error)
	// pair gets every pair of key and value within the bucket path that is not a
	// bucket. Its arguments are valid until it returns. False ends the walk.
	pair func(path [][]byte, k, v []byte, page uint64, offset int64) bool
	// bucket is told of every bucket; false: do not go into it.
	bucket func(path [][]byte, b bucketRef) bool

	buffers [maxTreeDepth + 1][]byte
	ended   bool
}

// bucketRef is where a bucket is: its root page, or for a small one the node itself.
type bucketRef struct {
	root     uint64
	sequence uint64
	inline   *node
}

func (p *pages) newWalk() *pageWalk { return &pageWalk{p: p, seen: newBitmap(p.high)} }

// all walks the whole file from its root.
func (w *pageWalk) all() { w.tree(w.p.root, nil, nil, 0, true) }

// in walks one bucket.
func (w *pageWalk) in(b bucketRef) {
	if b.inline != nil {
		w.leaf(b.inline, 0)
		return
	}
	w.tree(b.root, nil, nil, 0, true)
}

func (w *pageWalk) tell(err error) {
	if w.wrong != nil {
		w.wrong(err)
	}
}

// claim marks the pages of a node, or says which one belongs to another already.
func (w *pageWalk) claim(id uint64, follow uint32) error {
	for i := id; i <= id+uint64(follow); i++ {
		if w.seen.has(i) {
			return w.p.wrong(id, 0, "page %d is referred to twice", i)
		}
	}
	for i := id; i <= id+uint64(follow); i++ {
		w.seen.set(i)
	}
	return nil
}

// tree walks what is below page id, whose first key is known and whose keys are below
// high.
func (w *pageWalk) tree(id uint64, first, high []byte, depth int, root bool) {
	if depth > maxTreeDepth {
		w.tell(w.p.wrong(id, 0, "%d levels of pages", depth))
		return
	}
	if id < w.p.high && w.seen.has(id) {
		w.tell(w.p.wrong(id, 0, "page %d is referred to twice", id))
		return
	}
	n, err := w.p.readNode(id, w.buffers[depth])
	if n.p != nil {
		if err := w.claim(id, n.follow); err != nil {
			w.tell(err)
			return
		}
	}
	if err == nil {
		if cap(n.data) <= int(4*w.p.pageSize) {
			w.buffers[depth] = n.data
		}
		if !root && n.count == 0 {
			err = n.wrong(10, "a leaf page without elements")
		} else {
			err = n.rising(first, high)
		}
	}
	switch {
	case err != nil:
		w.tell(err)
	case n.leaf:
		w.leaf(&n, depth)
	default:
		for i := 0; i < n.count && !w.ended; i++ {
			k, _, _ := n.pair(i)
			below := high
			if i+1 < n.count {
				below, _, _ = n.pair(i + 1)
			}
			w.tree(n.child(i), k, below, depth+1, false)
		}
	}
}

// leaf visits the elements of a leaf page, and the buckets among them.
func (w *pageWalk) leaf(n *node, depth int) {
	for i := 0; i < n.count && !w.ended; i++ {
		k, v, at := n.pair(i)
		if n.flags(i) == 0 {
			if w.pair != nil && !w.pair(w.path, k, v, n.page, n.base+at) {
				w.ended = true
			}
			continue
		}
		b, err := n.bucket(i)
		if err != nil {
			w.tell(err)
			continue
		}
		w.path = append(w.path, bytes.Clone(k))
		switch {
		case w.bucket != nil && !w.bucket(w.path, b):
		case b.inline != nil:
			if err := b.inline.rising(nil, nil); err != nil {
				w.tell(err)
			} else if depth < maxTreeDepth {
				w.leaf(b.inline, depth+1)
			}
		default:
			w.tree(b.root, nil, nil, depth+1, true)
		}
		w.path = w.path[:len(w.path)-1]
	}
}

// bucket reads an element that is a bucket. An inline one is copied: it is small.
func (n *node) bucket(i int) (b bucketRef, err error) {
	k, v, at := n.pair(i)
	at += int64(len(k))
	if len(v) < bucketHeader {
		return b, n.wrong(at, "bucket %q of %d bytes", k, len(v))
	}
	b.sequence = native.Uint64(v[8:])
	if b.root = native.Uint64(v); b.root != 0 {
		if len(v) != bucketHeader {
			return b, n.wrong(at, "bucket %q of %d bytes", k, len(v))
		}
		return b, nil
	}
	in, err := n.inlineNode(slices.Clone(v), n.base+at)
	b.inline = &in
	return b, err
}

// freelist holds the freelist against the pages that were visited. With lost it also
// looks for pages that are in neither; that is harmless, and bbolt itself loses some
// when a transaction deletes a bucket that it has written to.
func (w *pageWalk) freelist(lost bool) {
	p := w.p
	if p.freelist == noFreelist {
		return
	}
	if h, err := p.readHead(p.freelist); err == nil {
		if err := w.claim(p.freelist, h.overflow); err != nil {
			w.tell(err)
			return
		}
	}
	next := uint64(2)
	gap := func(to uint64) {
		for ; next < to; next++ {
			if lost && !w.seen.has(next) {
				w.tell(&pageError{next, int64(next * p.pageSize), "the page is neither in use nor free", outbox.ErrCorrupt, true})
				lost = false // the others have the same cause
			}
		}
		next = to + 1
	}
	for id, err := range p.freePages() {
		if err == nil && w.seen.has(id) {
			err = p.wrong(p.freelist, 0, "page %d is both free and in use", id)
		}
		if err != nil {
			w.tell(err)
			return
		}
		gap(id)
	}
	gap(p.high)
}
