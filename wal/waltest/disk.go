package waltest

import (
	"maps"
	"path/filepath"
	"slices"
)

// sectorBytes is what a disk writes as a whole or not at all.
const sectorBytes = 512

// folderID stands for a folder where the id of a file could be.
const folderID = -1

// disk is the state of a file system: what programs see, and what of it is durable.
type disk struct {
	lastID int
	nodes  map[int]*node   // all files that ever were
	dirs   map[string]*dir // by path; those that programs see
}

// dir is a folder: its entries give names to the ids of files.
type dir struct {
	now    map[string]int
	synced map[string]int
	undone []entryChange // since the last SyncDir
}

// entryChange takes the name from away and gives the name to. Either may be empty.
type entryChange struct {
	from, to string
	id       int
}

// node is a file.
type node struct {
	id     int
	now    []byte
	synced []byte
	shared bool         // with a clone: copy the bytes before writing to them
	dirty  map[int]bool // sectors that a Sync would write
}

func newDisk() *disk {
	return &disk{nodes: map[int]*node{}, dirs: map[string]*dir{".": newDir(), "/": newDir()}}
}

func newDir() *dir { return &dir{now: map[string]int{}, synced: map[string]int{}} }

// clone returns a copy. The bytes of files are shared until they are written to.
func (d *disk) clone() *disk {
	c := &disk{lastID: d.lastID, nodes: map[int]*node{}, dirs: map[string]*dir{}}
	for id, n := range d.nodes {
		n.shared = true
		c.nodes[id] = &node{id, n.now, n.synced, true, maps.Clone(n.dirty)}
	}
	for path, from := range d.dirs {
		c.dirs[path] = &dir{maps.Clone(from.now), maps.Clone(from.synced), slices.Clone(from.undone)}
	}
	return c
}

// lookup returns the file with this name, or nil.
func (d *disk) lookup(name string) *node {
	parent := d.dirs[filepath.Dir(filepath.Clean(name))]
	if parent == nil {
		return nil
	}
	return d.nodes[parent.now[filepath.Base(name)]]
}

func (d *disk) names(path string) []string {
	if d.dirs[path] == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(d.dirs[path].now))
}

// put makes a durable file, in place of one that has its name.
func (d *disk) put(name string, data []byte) {
	d.lastID++
	data = slices.Clone(data)
	d.nodes[d.lastID] = &node{d.lastID, data, data, true, map[int]bool{}}
	parent := d.dirs[filepath.Dir(name)]
	delete(d.nodes, parent.now[filepath.Base(name)])
	parent.now[filepath.Base(name)], parent.synced[filepath.Base(name)] = d.lastID, d.lastID
}

// apply does an operation. One that failed does only what its Fault says.
func (d *disk) apply(op Op) {
	parent, base := d.dirs[filepath.Dir(op.Name)], filepath.Base(op.Name)
	switch {
	case op.Kind == Write:
		d.nodes[op.id].write(op.Data, op.Off)
	case op.Kind == Sync && op.dropped:
		clear(d.nodes[op.id].dirty)
	case op.Err != nil:
	case op.Kind == Sync:
		d.nodes[op.id].sync()
	case op.Kind == SyncDir:
		dir := d.dirs[op.Name]
		dir.synced, dir.undone = maps.Clone(dir.now), nil
	case op.Kind == Mkdir:
		d.dirs[op.Name] = newDir()
		parent.change(entryChange{to: base, id: folderID})
	case op.Kind == Create:
		d.lastID = op.id
		d.nodes[op.id] = &node{id: op.id, dirty: map[int]bool{}}
		parent.change(entryChange{to: base, id: op.id})
	case op.Kind == Rename:
		parent.change(entryChange{from: base, to: filepath.Base(op.To), id: parent.now[base]})
	case op.Kind == Remove:
		parent.change(entryChange{from: base})
	}
}

func (d *dir) change(c entryChange) {
	c.apply(d.now)
	d.undone = append(d.undone, c)
}

func (c entryChange) apply(entries map[string]int) {
	if c.from != "" {
		delete(entries, c.from)
	}
	if c.to != "" {
		entries[c.to] = c.id
	}
}

// own makes the bytes safe to write to.
func (n *node) own() {
	if n.shared {
		n.now, n.synced, n.shared = slices.Clone(n.now), slices.Clone(n.synced), false
	}
}

func (n *node) write(data []byte, off int64) {
	n.own()
	end := off + int64(len(data))
	first := off
	if old := int64(len(n.now)); end > old {
		n.now = append(n.now, make([]byte, end-old)...)
		first = min(off, old) // a gap is written too, as zeros
	}
	copy(n.now[off:], data)
	for s := first / sectorBytes; s*sectorBytes < end; s++ {
		n.dirty[int(s)] = true
	}
}

func (n *node) sync() {
	n.own()
	n.synced = append(n.synced, make([]byte, len(n.now)-len(n.synced))...)
	for s := range n.dirty {
		n.copySector(n.synced, s)
	}
	clear(n.dirty)
}

// copySector copies a sector as programs see it.
func (n *node) copySector(to []byte, s int) {
	from := s * sectorBytes
	if from < len(to) {
		copy(to[from:min(from+sectorBytes, len(to))], n.now[from:])
	}
}
