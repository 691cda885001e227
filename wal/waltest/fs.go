package waltest

import (
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/goutbox/goutbox/wal"
)

// FS is a file system in memory. The zero value is not usable; see [New]. It is safe for concurrent use.
type FS struct {
	mu     sync.Mutex
	base   *disk // as it was in the beginning
	now    *disk // as programs see it
	ops    []Op  // what led from base to now
	inject func(Op) *Fault
	free   int64       // bytes that files may still grow by; negative is no limit
	open   map[int]int // how often a file is open, by id

	past    *disk // as it was after pastOps operations: the next Crash is likely to be there, or a little later
	pastOps int
}

var _ wal.FS = (*FS)(nil)

// New returns an empty file system. The folders "." and "/" are there.
func New() *FS { return boot(newDisk()) }

// boot returns a file system that has just been started on a disk.
func boot(d *disk) *FS {
	return &FS{base: d.clone(), now: d, free: -1, open: map[int]int{}}
}

// Ops returns how many operations have changed the file system, or tried to.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ops)
}

// Op returns operation n, for a test that says where it failed. n is below Ops.
func (f *FS) Op(n int) Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops[n]
}

// Crash returns the file system that is found after power was lost when n operations had been done. It has no faults
// and no limit, and may crash in turn. The original is not changed.
func (f *FS) Crash(n int, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.past == nil || n < f.pastOps {
		f.past, f.pastOps = f.base.clone(), 0
	}
	for ; f.pastOps < n; f.pastOps++ {
		f.past.apply(f.ops[f.pastOps])
	}
	d := f.past.clone()
	d.lose(seed)
	return boot(d)
}

// Kill ends the program that used the file system, as SIGKILL does: its files are closed, and nothing is lost.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.open)
}

// Names returns the names in a folder, sorted.
func (f *FS) Names(dir string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.names(filepath.Clean(dir))
}

// Bytes returns a copy of a file's content, as programs see it, or nil if it is not there.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.now.lookup(name)
	if n == nil {
		return nil
	}
	return append([]byte{}, n.now...)
}

// SetBytes puts a file in place, durable, as if it had always been there: for tests that damage files. Operations are
// counted anew from here.
func (f *FS) SetBytes(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.put(filepath.Clean(name), data)
	f.base, f.ops, f.past = f.now.clone(), nil, nil
}

// Mkdir makes a folder. Its parent must be there.
func (f *FS) Mkdir(dir string) error {
	op := Op{Kind: Mkdir, Name: filepath.Clean(dir)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	switch {
	case f.now.dirs[op.Name] != nil || f.now.lookup(op.Name) != nil:
		return pathError(op, fs.ErrExist)
	case f.now.dirs[filepath.Dir(op.Name)] == nil:
		return pathError(op, fs.ErrNotExist)
	}
	return f.change(op, fault)
}

// ReadDir returns the names in a folder.
func (f *FS) ReadDir(dir string) ([]string, error) {
	op := Op{Kind: ReadDir, Name: filepath.Clean(dir)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	if f.now.dirs[op.Name] == nil {
		return nil, pathError(op, fs.ErrNotExist)
	}
	if fault != nil {
		return nil, pathError(op, fault.Err)
	}
	return f.now.names(op.Name), nil
}

// SyncDir makes the entries of a folder durable.
func (f *FS) SyncDir(dir string) error {
	op := Op{Kind: SyncDir, Name: filepath.Clean(dir)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	if f.now.dirs[op.Name] == nil {
		return pathError(op, fs.ErrNotExist)
	}
	return f.change(op, fault)
}

// Create makes a new file and opens it.
func (f *FS) Create(name string) (wal.File, error) {
	op := Op{Kind: Create, Name: filepath.Clean(name)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	switch {
	case f.now.dirs[filepath.Dir(op.Name)] == nil:
		return nil, pathError(op, fs.ErrNotExist)
	case f.now.lookup(op.Name) != nil:
		return nil, pathError(op, fs.ErrExist)
	}
	op.id = f.now.lastID + 1
	if err := f.change(op, fault); err != nil {
		return nil, err
	}
	return f.handle(op.Name), nil
}

// Open opens a file.
func (f *FS) Open(name string) (wal.File, error) {
	op := Op{Kind: Open, Name: filepath.Clean(name)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	if f.now.lookup(op.Name) == nil {
		return nil, pathError(op, fs.ErrNotExist)
	}
	if fault != nil {
		return nil, pathError(op, fault.Err)
	}
	return f.handle(op.Name), nil
}

// Rename gives a file another name, in the same folder. A file that had that name is gone.
func (f *FS) Rename(from, to string) error {
	op := Op{Kind: Rename, Name: filepath.Clean(from), To: filepath.Clean(to)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	if err := f.movable(op); err != nil {
		return err
	}
	return f.change(op, fault)
}

// Remove takes a file away.
func (f *FS) Remove(name string) error {
	op := Op{Kind: Remove, Name: filepath.Clean(name)}
	fault := f.begin(&op)
	defer f.mu.Unlock()
	if err := f.movable(op); err != nil {
		return err
	}
	size := int64(len(f.now.lookup(op.Name).now))
	if err := f.change(op, fault); err != nil {
		return err
	}
	if f.free >= 0 {
		f.free += size
	}
	return nil
}

// movable returns why a file cannot lose its name, or nil.
func (f *FS) movable(op Op) error {
	n := f.now.lookup(op.Name)
	switch {
	case n == nil:
		return pathError(op, fs.ErrNotExist)
	case f.open[n.id] > 0:
		return pathError(op, errBusy)
	}
	return nil
}

// begin asks how an operation is to fail, and returns with mu held.
func (f *FS) begin(op *Op) (fault *Fault) {
	f.mu.Lock()
	op.N = len(f.ops)
	if inject := f.inject; inject != nil {
		f.mu.Unlock()
		fault = inject(*op)
		f.mu.Lock()
		op.N = len(f.ops)
	}
	return fault
}

// change does an operation, or lets it fail, and records it. The caller holds mu.
func (f *FS) change(op Op, fault *Fault) error {
	if fault != nil {
		op.Err, op.dropped = fault.Err, fault.Drop
	}
	f.ops = append(f.ops, op)
	f.now.apply(op)
	if fault != nil {
		return pathError(op, fault.Err)
	}
	return nil
}

func pathError(op Op, err error) error {
	return &fs.PathError{Op: op.Kind.String(), Path: op.Name, Err: err}
}
