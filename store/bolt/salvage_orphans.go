package bolt

import (
	"bytes"

	"github.com/goutbox/goutbox/outbox"
	"go.etcd.io/bbolt"
)

// orphans looks at the leaf pages that are neither in the tree nor free: a damaged page
// has cut them off, and what they hold was in the database's last state. What it is, its
// checksum tells. Without a freelist nobody knows which pages are free, and what these
// hold may have been deleted long ago.
func (r *rebuild) orphans() error {
	p := r.v.p
	if p == nil {
		return nil
	}
	w := p.newWalk()
	w.all()
	taken := w.seen
	if h, err := p.readHead(p.freelist); p.freelist != noFreelist && err == nil {
		_ = w.claim(p.freelist, h.overflow)
	}
	for id, err := range p.freePages() {
		if err != nil {
			return nil
		}
		taken.set(id)
	}
	if p.freelist == noFreelist {
		return nil
	}
	var buf []byte
	for id := uint64(2); id < p.high; id++ {
		if taken.has(id) {
			continue
		}
		n, err := p.readNode(id, buf)
		if err != nil {
			r.Pages++
			continue
		}
		buf = n.data
		if !n.leaf || n.rising(nil, nil) != nil {
			continue
		}
		known := n.count == 0
		for i := range n.count {
			k, v, _ := n.pair(i)
			ok, err := r.orphan(k, v, n.flags(i))
			if err != nil {
				return err
			}
			known = known || ok
		}
		if !known {
			r.Pages++
		}
		id += uint64(n.follow)
	}
	return nil
}

// orphan takes over a pair of a page that was cut off, and reports whether it was one
// of the store's.
func (r *rebuild) orphan(k, v []byte, flags uint32) (known bool, err error) {
	if _, ok := placeOf(k); flags != 0 || ok && len(v) == 0 {
		return ok, nil // indexes are made anew
	}
	if _, _, ok := keyAndID(k); ok && len(v) == 0 {
		return true, nil
	}
	if len(v) == len(outbox.ID{}) && len(k) > 0 && (k[0] == 'u' || k[0] == 'l') {
		return true, nil
	}
	if _, _, ok := spentOf(k); ok && len(v) == 0 {
		return true, nil
	}
	if len(k) > 0 && k[0] == 'k' {
		if _, err := readSpent(k, v); err == nil {
			return true, r.keepSpent(k, v)
		}
	}
	if len(k) != len(outbox.ID{}) {
		return false, nil
	}
	id := outbox.ID(k)
	value, err := checkCRC(k, v)
	if err != nil {
		return false, nil
	}
	if h, err := decodeHeader(value); err == nil && h.id == id {
		return true, r.value(bucketTasks, id, v, false)
	}
	if l := loadDead(buckets{}, id, v); l.bad == nil && l.header.id == id {
		return true, r.value(bucketDead, id, v, false)
	}
	rd := reader{b: value}
	if rd.schedule(); rd.bad || len(rd.b) != 0 {
		return false, nil
	}
	r.cut = append(r.cut, orphan{bytes.Clone(k), bytes.Clone(v)})
	return true, nil
}

// application copies the other buckets of the file.
func (r *rebuild) application() (err error) {
	if r.v.p == nil {
		return nil
	}
	into := func(path [][]byte) (b *bbolt.Bucket, err error) {
		for i, name := range path {
			if i == 0 {
				b, err = r.tx.CreateBucketIfNotExists(bytes.Clone(name))
			} else {
				b, err = b.CreateBucketIfNotExists(bytes.Clone(name))
			}
			if err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	w := r.v.p.newWalk()
	w.bucket = func(path [][]byte, ref bucketRef) bool {
		if err != nil || bytes.Equal(path[0], bucketRoot) {
			return false
		}
		var b *bbolt.Bucket
		if err = r.room(0); err == nil {
			b, err = into(path)
		}
		if err == nil {
			err = b.SetSequence(ref.sequence)
		}
		return err == nil
	}
	w.pair = func(path [][]byte, k, v []byte, _ uint64, _ int64) bool {
		if len(path) == 0 {
			return true
		}
		var b *bbolt.Bucket
		if err = r.room(len(k) + len(v)); err == nil {
			b, err = into(path)
		}
		if err == nil {
			err = b.Put(bytes.Clone(k), bytes.Clone(v))
		}
		return err == nil
	}
	w.all()
	return err
}
