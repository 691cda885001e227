package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// guardPages is how many pages of the tree are looked at before bbolt opens the
// file: all of a small store, and of a large one the branch pages nearest to the
// roots, so that opening costs no more with ten million tasks: a megabyte, here and
// there in the file.
const guardPages = 256

// guardDatabase refuses a file that bbolt could not be trusted with, before bbolt
// maps it (P11, R34). What bbolt does on one is beyond recovering from: a file that
// was cut short ends the program with SIGBUS, and branch pages that lead in a
// circle fill the stack. A file that is missing or empty is none of its business.
//
// One meta page may be invalid. That is what a power cut leaves when it tears the
// write of the newer one, and then bbolt goes back to the one before it. This loses
// nothing: the log is recycled only after a commit has returned, so it still has
// everything behind the position that the older one knows (R29). If instead the
// newer one was damaged later, and the log has been recycled since, recovery sees
// that the log begins behind that position, and refuses with ErrMismatch.
func guardDatabase(path string, most int) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bolt: open: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("bolt: open: %w", err)
	}
	if info.Size() == 0 {
		return nil
	}
	adviseRandom(f)
	if busy, _ := tryLock(f); busy { // who has it open may be writing; bbolt waits for the lock
		return nil
	}
	p, err := newPages(f, info.Size())
	if err == nil {
		err = p.guard(most)
	}
	return inFile(err, path)
}

// inFile says which file an error of its pages is about.
func inFile(err error, path string) error {
	var e *pageError
	if errors.As(err, &e) {
		return fmt.Errorf("%w: %s: %w", e.cause, path, e)
	}
	return err
}

// guard checks the top of the tree and the freelist.
func (p *pages) guard(most int) (err error) {
	g := guard{walk: p.newWalk(), left: most}
	g.walk.wrong = func(e error) {
		if err == nil {
			err = e
		}
	}
	if p.freelist == noFreelist { // then bbolt walks through all of it to find out what is free
		g.left = int(min(p.high, 1<<30))
	}
	g.add(reference{id: p.root, root: true})
	for err == nil && g.left > 0 && len(g.near)+len(g.far) > 0 {
		g.left--
		if err := g.visit(g.take()); err != nil {
			return err
		}
	}
	if err == nil {
		g.walk.freelist(false)
	}
	return err
}

// guard is a walk by levels: branch pages first, then leaves.
type guard struct {
	walk      *pageWalk
	near, far []reference
	left      int
	buf       []byte
}

// reference is one to a page whose first key is known and whose keys are below high.
type reference struct {
	id          uint64
	first, high []byte
	root        bool
}

func (g *guard) add(r reference) { g.near = append(g.near, r) }

func (g *guard) take() (r reference) {
	if len(g.near) > 0 {
		r, g.near = g.near[0], g.near[1:]
		return r
	}
	r, g.far = g.far[0], g.far[1:]
	return r
}

// visit checks one page and notes which ones it leads to. All of these count as
// visited from now on, whether there is budget to read them or not, so a page that
// leads back to one of them is found out.
func (g *guard) visit(r reference) error {
	p, w := g.walk.p, g.walk
	n, err := p.readNode(r.id, g.buf)
	if g.buf = nil; n.leaf { // of a branch page, the keys are still needed
		g.buf = n.data
	}
	switch {
	case err != nil:
		return err
	case r.root:
		err = w.claim(r.id, n.follow)
	case n.follow > 0:
		err = w.claim(r.id+1, n.follow-1)
	}
	if err == nil {
		err = n.rising(r.first, r.high)
	}
	if err == nil && n.count == 0 && !r.root {
		err = n.wrong(10, "a leaf page without elements")
	}
	if err != nil {
		return err
	}
	if n.leaf {
		return g.buckets(&n, 0)
	}
	deeper := g.leadsToBranches(&n)
	for i := range n.count {
		c := reference{id: n.child(i)}
		c.first, _, _ = n.pair(i)
		if c.high = r.high; i+1 < n.count {
			c.high, _, _ = n.pair(i + 1)
		}
		if c.id < 2 || c.id >= p.high {
			return n.wrong(int64(pageHeader+pageElement*i), "a reference to page %d of %d", c.id, p.high)
		}
		if err := w.claim(c.id, 0); err != nil {
			return err
		}
		switch {
		case deeper:
			g.near = append(g.near, c)
		case len(g.far) < g.left:
			g.far = append(g.far, c)
		}
	}
	return nil
}

// leadsToBranches looks at the first child of a branch page: the others are of the
// same kind.
func (g *guard) leadsToBranches(n *node) bool {
	h, err := n.p.readHead(n.child(0))
	return err == nil && h.flags == pageBranch
}

// buckets notes the roots of the buckets in a leaf page.
func (g *guard) buckets(n *node, depth int) error {
	for i := range n.count {
		if n.flags(i) == 0 {
			continue
		}
		b, err := n.bucket(i)
		switch {
		case err != nil:
			return err
		case b.inline == nil:
			g.add(reference{id: b.root, root: true})
			continue
		case depth == maxTreeDepth:
			return n.wrong(0, "%d levels of buckets", depth)
		}
		if err := b.inline.rising(nil, nil); err != nil {
			return err
		}
		if err := g.buckets(b.inline, depth+1); err != nil {
			return err
		}
	}
	return nil
}
