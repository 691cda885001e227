package bolt

import (
	"bytes"
)

// node is a branch or leaf page that was read, with all its numbers checked.
type node struct {
	p      *pages
	page   uint64 // the page it is in
	base   int64  // and where in it: 0, unless it is an inline bucket's
	data   []byte // from its header to the end of its last element
	leaf   bool
	count  int
	follow uint32 // pages that belong to it behind the first
}

// readNode reads a branch or leaf page. It takes as much memory as the page has
// bytes in use, which are bytes that the file has. On an error the node tells at
// least which pages it takes, unless even its header is wrong.
func (p *pages) readNode(id uint64, buf []byte) (n node, err error) {
	h, err := p.readHead(id)
	if err != nil {
		return n, err
	}
	n = node{p: p, page: id, leaf: h.flags == pageLeaf, count: int(h.count), follow: h.overflow}
	if h.flags == pageFreelist {
		return n, p.wrong(id, 8, "the freelist is in the tree")
	}
	room := (uint64(h.overflow) + 1) * p.pageSize
	table := uint64(pageHeader + pageElement*n.count)
	if table > room {
		return n, p.wrong(id, 10, "%d elements in %d bytes", n.count, room)
	}
	n.data = grow(buf, max(table, min(room, p.pageSize)))
	if err := p.readAt(n.data, id, 0); err != nil {
		return n, err
	}
	end, err := n.check(room)
	if err != nil {
		return n, err
	}
	if used := (end + p.pageSize - 1) / p.pageSize; used != uint64(h.overflow)+1 {
		return n, p.wrong(id, 12, "it has %d pages, but its elements take %d", h.overflow+1, used)
	}
	if have := uint64(len(n.data)); end > have {
		n.data = append(n.data, make([]byte, end-have)...)
		if err := p.readAt(n.data[have:], id, int64(have)); err != nil {
			return n, err
		}
	}
	n.data = n.data[:end]
	return n, nil
}

func grow(buf []byte, n uint64) []byte {
	if uint64(cap(buf)) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

// inlineNode is the page within the value of a small bucket.
func (n *node) inlineNode(value []byte, offset int64) (in node, err error) {
	in = node{p: n.p, page: n.page, base: offset + bucketHeader, data: value[bucketHeader:], leaf: true}
	if len(in.data) < pageHeader {
		return in, in.wrong(0, "inline bucket of %d bytes", len(value))
	}
	if flags := native.Uint16(in.data[8:]); flags != pageLeaf {
		return in, in.wrong(8, "inline bucket with a page of type %#x", flags)
	}
	in.count = int(native.Uint16(in.data[10:]))
	if pageHeader+pageElement*in.count > len(in.data) {
		return in, in.wrong(10, "inline bucket: %d elements in %d bytes", in.count, len(in.data))
	}
	end, err := in.check(uint64(len(in.data)))
	if err == nil && end != uint64(len(in.data)) {
		err = in.wrong(0, "inline bucket of %d bytes, its elements end after %d", len(in.data), end)
	}
	return in, err
}

func (n *node) wrong(at int64, format string, args ...any) *pageError {
	return n.p.wrong(n.page, n.base+at, format, args...)
}

// check goes through the table of elements and returns where the last one ends.
func (n *node) check(room uint64) (end uint64, err error) {
	if !n.leaf && n.count == 0 {
		return 0, n.wrong(10, "a branch page without elements")
	}
	end = uint64(pageHeader + pageElement*n.count)
	for i := range n.count {
		at := uint64(pageHeader + pageElement*i)
		pos, key, value := n.sizes(i)
		if at+pos != end || key == 0 || value > room || end+key+value > room {
			return 0, n.wrong(int64(at), "element %d of %d: %d bytes at %d, where %d to %d are left", i, n.count, key+value, at+pos, end, room)
		}
		end += key + value
		if flags := n.flags(i); flags > 1 {
			return 0, n.wrong(int64(at), "element %d of %d has flags %#x", i, n.count, flags)
		}
	}
	return end, nil
}

func (n *node) element(i int) []byte { return n.data[pageHeader+pageElement*i:][:pageElement] }

// sizes returns where an element's key is, and how long key and value are.
func (n *node) sizes(i int) (pos, key, value uint64) {
	e := n.element(i)
	if n.leaf {
		return uint64(native.Uint32(e[4:])), uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
	}
	return uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])), 0
}

func (n *node) flags(i int) uint32 {
	if n.leaf {
		return native.Uint32(n.element(i))
	}
	return 0
}

// child is the page that an element of a branch page refers to.
func (n *node) child(i int) uint64 { return native.Uint64(n.element(i)[8:]) }

// pair returns an element's key and value, and where in the page the key is.
func (n *node) pair(i int) (k, v []byte, at int64) {
	pos, key, value := n.sizes(i)
	from := uint64(pageHeader+pageElement*i) + pos
	return n.data[from : from+key : from+key], n.data[from+key : from+key+value : from+key+value], int64(from)
}

// rising checks that the keys rise and are below high, and that the first of them is
// the one that the branch page above has; nil is none. bbolt keeps these the same, and
// must: a transaction that changes a page looks it up above by its first key, and if
// that is not there, the page is in the tree twice from then on, as it was and as it
// is.
func (n *node) rising(first, high []byte) error {
	var before []byte
	for i := range n.count {
		k, _, at := n.pair(i)
		if before != nil && bytes.Compare(k, before) <= 0 || high != nil && bytes.Compare(k, high) >= 0 {
			return n.wrong(at, "key %d of %d is out of order", i, n.count)
		}
		if before = k; i == 0 && first != nil && !bytes.Equal(k, first) {
			return n.wrong(at, "the first key is not the one that the page above has")
		}
	}
	return nil
}
