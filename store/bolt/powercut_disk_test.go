//go:build linux

package bolt_test

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// This file is a model of a disk: it is told what happened, and says what may be
// found after a power cut. It is that of package wal/waltest, for what was recorded
// instead of what was called: a sync takes its time, and a sector that was written
// twice may have any of its contents.

// sector is what a disk writes as a whole or not at all.
const sector = 512

// aFolder stands for a folder where the number of a file could be.
const aFolder = -1

type disk struct {
	nodes   map[int]*inode
	folders map[string]*folder // by path below the root, which is "."
	writes  map[int][]*version // of calls that have not returned
	syncs   map[int]func()     // what their return does
}

// folder gives names to files.
type folder struct {
	now, synced map[string]int
	undone      []*rename // since the last sync
}

// rename takes the name from away and gives the name to. Either may be empty.
type rename struct {
	from, to string
	id       int
}

func (c rename) apply(names map[string]int) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.id
	}
}

// inode is a file.
type inode struct {
	now    []byte
	synced []byte
	dirty  map[int][]*version // what sectors were since they were synced, oldest first
	sizes  []*int             // what the size was since it was synced
}

// version is a content of a sector.
type version struct {
	data []byte // 512 bytes
	done bool   // the write has returned, so that a sync that begins now covers it
}

func newDisk() *disk {
	return &disk{
		nodes: map[int]*inode{}, folders: map[string]*folder{".": newFolder()},
		writes: map[int][]*version{}, syncs: map[int]func(){},
	}
}

func newFolder() *folder { return &folder{now: map[string]int{}, synced: map[string]int{}} }

// put makes a durable file, and the folders that it is in.
func (d *disk) put(name string, node int, data []byte) {
	d.putFolder(path.Dir(name))
	d.nodes[node] = &inode{now: slices.Clone(data), synced: slices.Clone(data), dirty: map[int][]*version{}}
	f := d.folders[path.Dir(name)]
	f.now[path.Base(name)], f.synced[path.Base(name)] = node, node
}

func (d *disk) putFolder(name string) {
	if d.folders[name] != nil {
		return
	}
	d.putFolder(path.Dir(name))
	d.folders[name] = newFolder()
	f := d.folders[path.Dir(name)]
	f.now[path.Base(name)], f.synced[path.Base(name)] = aFolder, aFolder
}

// apply does what an event says.
func (d *disk) apply(e event) {
	parent, base := d.folders[path.Dir(e.path)], path.Base(e.path)
	switch e.kind {
	case evMkdir:
		d.folders[e.path] = newFolder()
		parent.change(rename{to: base, id: aFolder})
	case evCreate:
		d.nodes[e.node] = &inode{dirty: map[int][]*version{}}
		parent.change(rename{to: base, id: e.node})
	case evRename:
		parent.change(rename{from: base, to: path.Base(e.to), id: parent.now[base]})
	case evUnlink:
		parent.change(rename{from: base})
	case evWrite:
		d.writes[e.call] = d.nodes[e.node].write(e.data, int(e.off))
	case evWritten:
		for _, v := range d.writes[e.call] {
			v.done = true
		}
		delete(d.writes, e.call)
	case evDeath: // what was being written is in the page cache, where the next process sees and syncs it
		for _, all := range d.writes {
			for _, v := range all {
				v.done = true
			}
		}
		clear(d.writes)
		clear(d.syncs)
	case evSize:
		d.nodes[e.node].resize(int(e.off))
	case evGrow:
		if n := d.nodes[e.node]; int(e.off) > len(n.now) {
			n.resize(int(e.off))
		}
	case evSyncBegin:
		if e.node != 0 {
			d.syncs[e.call] = d.nodes[e.node].sync()
		} else {
			d.syncs[e.call] = d.folders[e.path].sync()
		}
	case evSyncEnd:
		if f := d.syncs[e.call]; f != nil {
			f()
		}
		delete(d.syncs, e.call)
	}
}

func (f *folder) change(c rename) {
	c.apply(f.now)
	f.undone = append(f.undone, &c)
}

// sync begins a sync; what it returns ends it.
func (f *folder) sync() (end func()) {
	if len(f.undone) == 0 {
		return nil
	}
	last := f.undone[len(f.undone)-1]
	return func() {
		n := slices.Index(f.undone, last) + 1 // 0: another sync was faster
		for _, c := range f.undone[:n] {
			c.apply(f.synced)
		}
		f.undone = f.undone[n:]
	}
}

// write writes, and returns what is not done before the call returns.
func (n *inode) write(data []byte, off int) []*version {
	if end := off + len(data); end > len(n.now) {
		n.resize(end)
	}
	copy(n.now[off:], data)
	var made []*version
	for s := off / sector; s*sector < off+len(data); s++ {
		v := &version{data: make([]byte, sector)}
		copy(v.data, n.now[s*sector:])
		n.dirty[s] = append(n.dirty[s], v)
		made = append(made, v)
	}
	return made
}

// resize changes the size. What comes is zeros, but may be anything until it was
// synced, and what goes and comes again is zeros then.
func (n *inode) resize(size int) {
	from := min(size, len(n.now))
	to := max(size, len(n.now))
	now := make([]byte, size)
	copy(now, n.now)
	n.now = now
	for s := from / sector; s*sector < to; s++ {
		v := &version{data: make([]byte, sector), done: true}
		if s*sector < size {
			copy(v.data, now[s*sector:])
		}
		n.dirty[s] = append(n.dirty[s], v)
	}
	n.sizes = append(n.sizes, &size)
}

// sync begins a sync; what it returns ends it.
func (n *inode) sync() (end func()) {
	covered := map[int]*version{}
	for s, all := range n.dirty {
		for _, v := range all {
			if v.done {
				covered[s] = v
			}
		}
	}
	var size *int
	if len(n.sizes) > 0 {
		size = n.sizes[len(n.sizes)-1]
	}
	return func() {
		if i := slices.Index(n.sizes, size); i >= 0 {
			synced := make([]byte, *size)
			copy(synced, n.synced)
			n.synced, n.sizes = synced, n.sizes[i+1:]
		}
		for s, v := range covered {
			if i := slices.Index(n.dirty[s], v); i >= 0 {
				n.dirty[s] = n.dirty[s][i+1:]
			}
			if len(n.dirty[s]) == 0 {
				delete(n.dirty, s)
			}
			if s*sector < len(n.synced) {
				copy(n.synced[s*sector:min((s+1)*sector, len(n.synced))], v.data)
			}
		}
	}
}

// fate decides what a power cut takes: everything that is not durable (seed 0),
// nothing (seed 1), or each thing by itself.
type fate struct {
	seed uint64
	rand *rand.Rand
}

func (f *fate) kept() bool {
	if f.seed < 2 {
		return f.seed == 1
	}
	return f.rand.IntN(2) == 1
}

// lose returns what is left of a file.
func (n *inode) lose(f *fate) []byte {
	size := len(n.synced)
	if last := len(n.sizes) - 1; last >= 0 && f.kept() {
		size = *n.sizes[last]
	} else if last >= 0 && f.seed > 1 && f.kept() { // part of the way
		low, high := min(size, *n.sizes[last]), max(size, *n.sizes[last])
		size = low + f.rand.IntN(high-low+1)
	}
	left := make([]byte, size)
	if f.seed%2 == 1 { // what a file had grown by, and then lost, is not zeros
		for i := len(n.synced); i < size; i++ {
			left[i] = byte(f.rand.Uint32())
		}
	}
	copy(left, n.synced)
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		if f.kept() && s*sector < size {
			all := n.dirty[s]
			v := all[len(all)-1]
			if f.seed > 1 && f.rand.IntN(4) == 0 {
				v = all[f.rand.IntN(len(all))]
			}
			copy(left[s*sector:min((s+1)*sector, size)], v.data)
		}
	}
	return left
}

// image is what is found on the disk when the power comes back.
type image struct {
	files   map[string][]byte
	folders []string
}

// cut returns what a power cut at this moment leaves.
func (d *disk) cut(c cut) image {
	f := &fate{seed: c.seed, rand: rand.New(rand.NewPCG(c.seed, uint64(c.n)))}
	img := image{files: map[string][]byte{}}
	d.collect(c.under, "", f, &img)
	return img
}

func (d *disk) collect(under, as string, f *fate, img *image) {
	dir := d.folders[under]
	names := maps.Clone(dir.synced)
	for _, c := range dir.undone {
		if f.kept() {
			c.apply(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		to := path.Join(as, name)
		if id := names[name]; id != aFolder {
			img.files[to] = d.nodes[id].lose(f)
			continue
		}
		img.folders = append(img.folders, to)
		d.collect(path.Join(under, name), to, f, img)
	}
}

// write writes the image to a real folder.
func (img image) write(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	for _, name := range img.folders {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			return err
		}
	}
	for name, data := range img.files {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

var hashSeed = maphash.MakeSeed()

// hash tells images apart. LOCK holds a process number that nobody reads.
func (img image) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, name := range slices.Sorted(maps.Keys(img.files)) {
		if path.Base(name) != "LOCK" {
			fmt.Fprintf(&h, "%s %d\n", name, len(img.files[name]))
			h.Write(img.files[name])
		}
	}
	for _, name := range img.folders {
		fmt.Fprintln(&h, name)
	}
	return h.Sum64()
}

// unfinished reports whether there is a file under a temporary name.
func (img image) unfinished() bool {
	for name := range img.files {
		if strings.HasSuffix(name, ".tmp") {
			return true
		}
	}
	return false
}

// metaTx returns the highest transaction number of the two meta pages of a bbolt
// file; the meta begins 16 bytes into its page, the number is 48 bytes on.
func metaTx(file []byte) uint64 {
	const page, at = 4096, 16 + 48
	if len(file) < page+at+8 {
		return 0
	}
	return max(binary.LittleEndian.Uint64(file[at:]), binary.LittleEndian.Uint64(file[page+at:]))
}
