package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"

	"github.com/goutbox/goutbox/outbox"
)

// A reader of bbolt's file format, apart from bbolt. bbolt believes what its pages
// say, and reads them from a map of the file: on a damaged file it panics, runs in
// circles until the stack is full, or touches memory that is not there. This one
// reads the file itself, checks every number before it uses it, and goes on after
// damage (R34). The format, in the byte order of the machine that wrote it:
//
//	page     u64 id, u16 flags, u16 count, u32 overflow: as many more pages belong to it
//	meta     u32 magic, u32 version, u32 page size, u32 flags, u64 root, u64 sequence,
//	         u64 freelist, u64 high-water mark, u64 transaction, u64 FNV-1a of all that
//	branch   count times u32 pos, u32 key size, u64 page; then the keys
//	leaf     count times u32 flags (1: bucket), u32 pos, u32 key size, u32 value size; then keys and values
//	freelist count times u64 page; when count is 0xFFFF the first u64 is the count
//	bucket   a value: u64 root page, u64 sequence; when root is 0 a leaf page follows
//
// pos counts from the element it stands in. bbolt writes keys and values one behind
// the other without gaps, so anything else is damage.
const (
	pageHeader    = 16
	pageElement   = 16
	bucketHeader  = 16
	metaSize      = 64
	pageBranch    = 0x01
	pageLeaf      = 0x02
	pageMeta      = 0x04
	pageFreelist  = 0x10
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	noFreelist    = ^uint64(0)
	minPageSize   = 512
	maxPageSize   = 16 << 20
	maxTreeDepth  = 64 // bbolt's trees have a few levels, and buckets are within buckets
	manyFreePages = 0xFFFF
)

var native = binary.NativeEndian

// pageError is one thing that is wrong with a page.
type pageError struct {
	page   uint64
	offset int64 // in the file
	what   string
	cause  error // outbox.ErrCorrupt, or what reading the file failed with
	note   bool  // harmless
}

func (e *pageError) Error() string {
	return fmt.Sprintf("page %d at byte %d: %s", e.page, e.offset, e.what)
}

func (e *pageError) Unwrap() error { return e.cause }

// metaPage is what one of the two meta pages says.
type metaPage struct {
	pageSize, root, freelist, high, tx uint64
}

// pages is a bbolt file that is read page by page.
type pages struct {
	f    io.ReaderAt
	size int64
	metaPage
	metas [2]error // why a meta page is not valid
}

// newPages finds the newest valid meta page. bbolt writes the two in turn, so after
// a power cut the newer one may be torn; the older one and all that it refers to is
// whole then, since its pages are used again only by the transaction after the next.
func newPages(f io.ReaderAt, size int64) (*pages, error) {
	p := &pages{f: f, size: size}
	first, err := p.readMeta(0, 0)
	p.metas[0] = err
	second, err := p.secondMeta(first)
	p.metas[1] = err
	switch {
	case p.metas[0] != nil && p.metas[1] != nil:
		cause := outbox.ErrCorrupt
		if errors.Is(p.metas[0], outbox.ErrVersion) || errors.Is(p.metas[1], outbox.ErrVersion) {
			cause = outbox.ErrVersion
		}
		return nil, &pageError{cause: cause, what: fmt.Sprintf("no valid meta page: %v; %v", p.metas[0], p.metas[1])}
	case p.metas[0] != nil, p.metas[1] == nil && second.tx > first.tx:
		p.metaPage = second
	default:
		p.metaPage = first
	}
	if held := uint64(size) / p.pageSize; p.high > held {
		err := p.wrong(held, 0, "the file ends here, after %d bytes, but has had %d pages of %d: it was cut short", size, p.high, p.pageSize)
		p.high = held // a number that was damaged may be anything: nothing may take its measure from it
		return p, err
	}
	if p.root < 2 || p.root >= p.high || p.freelist != noFreelist && (p.freelist < 2 || p.freelist >= p.high) {
		return nil, p.wrong(p.tx%2, 0, "meta page refers to pages %d and %d of %d", p.root, p.freelist, p.high)
	}
	return p, nil
}

// secondMeta reads the meta page behind the first; how large that is, only a valid
// one says.
func (p *pages) secondMeta(first metaPage) (m metaPage, err error) {
	if p.metas[0] == nil {
		return p.readMeta(1, int64(first.pageSize))
	}
	for at := int64(1 << 10); at <= maxPageSize; at <<= 1 {
		if m, err = p.readMeta(1, at); err == nil && m.pageSize == uint64(at) {
			return m, nil
		}
	}
	return m, &pageError{page: 1, cause: outbox.ErrCorrupt, what: "meta page: none found"}
}

// readMeta reads a meta page at a place in the file.
func (p *pages) readMeta(page uint64, at int64) (m metaPage, err error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := p.f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return m, err
	} else if err != nil {
		return m, &pageError{page, at, "meta page: the file ends in it", outbox.ErrCorrupt, false}
	}
	b = b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8])
	bad := func(what string, cause error) (metaPage, error) {
		return m, &pageError{page, at, "meta page: " + what, cause, false}
	}
	switch {
	case native.Uint32(b) != boltMagic:
		return bad("not that of a bbolt file", outbox.ErrCorrupt)
	case native.Uint32(b[4:]) != boltVersion:
		return bad(fmt.Sprintf("version %d, this program knows %d", native.Uint32(b[4:]), boltVersion), outbox.ErrVersion)
	case native.Uint64(b[metaSize-8:]) != sum.Sum64():
		return bad("checksum", outbox.ErrCorrupt)
	}
	m = metaPage{
		pageSize: uint64(native.Uint32(b[8:])), root: native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]), high: native.Uint64(b[40:]), tx: native.Uint64(b[48:]),
	}
	if m.pageSize < minPageSize || m.pageSize > maxPageSize || m.pageSize&(m.pageSize-1) != 0 {
		return bad(fmt.Sprintf("page size %d", m.pageSize), outbox.ErrCorrupt)
	}
	return m, nil
}

func (p *pages) wrong(page uint64, at int64, format string, args ...any) *pageError {
	return &pageError{page, int64(page*p.pageSize) + at, fmt.Sprintf(format, args...), outbox.ErrCorrupt, false}
}

// head is the header of a page.
type head struct {
	flags, count uint16
	overflow     uint32
}

// readHead reads and checks the header of page id.
func (p *pages) readHead(id uint64) (h head, err error) {
	if id < 2 || id >= p.high {
		return h, p.wrong(0, 0, "a reference to page %d of %d", id, p.high)
	}
	var b [pageHeader]byte
	if err := p.readAt(b[:], id, 0); err != nil {
		return h, err
	}
	h = head{native.Uint16(b[8:]), native.Uint16(b[10:]), native.Uint32(b[12:])}
	switch {
	case native.Uint64(b[:]) != id:
		return h, p.wrong(id, 0, "it says that it is page %d", native.Uint64(b[:]))
	case h.flags != pageBranch && h.flags != pageLeaf && h.flags != pageFreelist:
		return h, p.wrong(id, 8, "its type is %#x", h.flags)
	case uint64(h.overflow) >= p.high-id:
		return h, p.wrong(id, 12, "it says that %d more pages belong to it; the last one is %d", h.overflow, p.high-1)
	}
	return h, nil
}

func (p *pages) readAt(b []byte, page uint64, at int64) error {
	if _, err := p.f.ReadAt(b, int64(page*p.pageSize)+at); err != nil {
		e := p.wrong(page, at, "%v", err)
		if !errors.Is(err, io.EOF) {
			e.cause = err
		}
		return e
	}
	return nil
}

// freePages yields the freelist, in order. An error ends it.
func (p *pages) freePages() iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		if p.freelist == noFreelist {
			return
		}
		h, err := p.readHead(p.freelist)
		if err == nil && h.flags != pageFreelist {
			err = p.wrong(p.freelist, 8, "its type is %#x, not that of the freelist", h.flags)
		}
		if err != nil {
			yield(0, err)
			return
		}
		at, n := int64(pageHeader), uint64(h.count)
		b := make([]byte, 8<<10)
		if n == manyFreePages {
			if err := p.readAt(b[:8], p.freelist, at); err != nil {
				yield(0, err)
				return
			}
			at, n = at+8, native.Uint64(b)
		}
		if room := (uint64(h.overflow)+1)*p.pageSize - uint64(at); n > room/8 {
			yield(0, p.wrong(p.freelist, 10, "freelist of %d pages in %d bytes", n, room))
			return
		}
		for last := uint64(1); n > 0; {
			part := b[:8*min(n, uint64(len(b)/8))]
			if err := p.readAt(part, p.freelist, at); err != nil {
				yield(0, err)
				return
			}
			for i := 0; i < len(part); i += 8 {
				id := native.Uint64(part[i:])
				if id <= last || id >= p.high {
					yield(0, p.wrong(p.freelist, at+int64(i), "free page %d after %d, of %d", id, last, p.high))
					return
				}
				if last = id; !yield(id, nil) {
					return
				}
			}
			at, n = at+int64(len(part)), n-uint64(len(part)/8)
		}
	}
}

// bitmap has a bit for each page of a file.
type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, n/64+1) }

func (b bitmap) has(i uint64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i uint64)      { b[i/64] |= 1 << (i % 64) }
