package waltest

import (
	"io"
	"io/fs"

	"github.com/goutbox/goutbox/wal"
)

// file is an open file.
type file struct {
	fs     *FS
	name   string
	node   *node
	closed bool
}

func (f *FS) handle(name string) wal.File {
	n := f.now.lookup(name)
	f.open[n.id]++
	return &file{fs: f, name: name, node: n}
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	op := Op{Kind: Read, Name: f.name, Off: off, Len: len(b)}
	fault := f.fs.begin(&op)
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, pathError(op, fs.ErrClosed)
	}
	if fault != nil {
		return 0, pathError(op, fault.Err)
	}
	if off > int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	op := Op{Kind: Write, Name: f.name, Off: off, Data: append([]byte{}, b...), id: f.node.id}
	fault := f.fs.begin(&op)
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, pathError(op, fs.ErrClosed)
	}
	if fault == nil {
		fault = f.fs.grow(f.node, off, int64(len(b)))
	}
	if fault != nil {
		op.Data = op.Data[:min(fault.Short, len(b))]
	}
	err := f.fs.change(op, fault)
	return len(op.Data), err
}

// grow takes the bytes that a write adds to a file from those that are free.
func (f *FS) grow(n *node, off, length int64) *Fault {
	more := off + length - int64(len(n.now))
	if f.free < 0 || more <= 0 {
		return nil
	}
	if more > f.free {
		short := max(length-more+f.free, 0)
		f.free = 0
		return &Fault{Err: ErrFull, Short: int(short)}
	}
	f.free -= more
	return nil
}

func (f *file) Sync() error {
	op := Op{Kind: Sync, Name: f.name, id: f.node.id}
	fault := f.fs.begin(&op)
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError(op, fs.ErrClosed)
	}
	return f.fs.change(op, fault)
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.now)), nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError(Op{Kind: Open, Name: f.name}, fs.ErrClosed)
	}
	f.closed = true
	if f.fs.open[f.node.id] > 0 { // else it was closed by Kill
		f.fs.open[f.node.id]--
	}
	return nil
}
