package waltest

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// fate decides what a crash takes.
type fate struct {
	rand    *rand.Rand
	seed    uint64
	garbage bool // what a file had grown by, and then lost, is not zeros
}

// kept says whether one thing that was not durable is there all the same.
func (f *fate) kept() bool {
	if f.seed < 2 {
		return f.seed == 1
	}
	return f.rand.IntN(2) == 1
}

// lose turns off the power: the disk becomes what is found when it comes back. Everything on it is durable then.
func (d *disk) lose(seed uint64) {
	f := &fate{rand: rand.New(rand.NewPCG(seed, 1)), seed: seed, garbage: seed%2 == 1}
	for _, path := range slices.Sorted(maps.Keys(d.dirs)) {
		dir := d.dirs[path]
		for _, c := range dir.undone {
			if f.kept() {
				c.apply(dir.synced)
			}
		}
		dir.now, dir.undone = maps.Clone(dir.synced), nil
	}
	for _, path := range slices.Sorted(maps.Keys(d.dirs)) { // a folder comes before what is in it
		parent := d.dirs[filepath.Dir(path)]
		if path != "." && path != "/" && (parent == nil || parent.now[filepath.Base(path)] != folderID) {
			delete(d.dirs, path)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.nodes)) {
		n := d.nodes[id]
		n.now = n.lose(f)
		n.synced, n.shared = n.now, true
		clear(n.dirty)
	}
}

// lose returns what is left of a file.
func (n *node) lose(f *fate) []byte {
	if len(n.dirty) == 0 && len(n.now) == len(n.synced) {
		return n.synced
	}
	size := len(n.synced)
	if f.kept() {
		size = len(n.now)
	} else if more := len(n.now) - size; more > 0 && f.seed > 1 && f.rand.IntN(2) == 1 {
		size += f.rand.IntN(more)
	}
	left := make([]byte, size)
	if f.garbage {
		for i := len(n.synced); i < size; i++ {
			left[i] = byte(f.rand.Uint32())
		}
	}
	copy(left, n.synced)
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		if f.kept() {
			n.copySector(left, s)
		}
	}
	return left
}
