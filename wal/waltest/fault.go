package waltest

import (
	"errors"
	"fmt"
	"syscall"
)

// Kind says what an operation does.
type Kind int

// The operations of a wal.FS and a wal.File. Closing a file and asking its size cannot fail here.
const (
	Mkdir Kind = iota + 1
	SyncDir
	Create
	Rename
	Remove
	Write
	Sync
	ReadDir // this one and those below change nothing, and are not counted
	Open
	Read
)

var kinds = [...]string{"", "mkdir", "syncdir", "create", "rename", "remove", "write", "sync", "readdir", "open", "read"}

func (k Kind) String() string { return kinds[k] }

// Op is one operation.
type Op struct {
	N    int // how many operations were counted before it
	Kind Kind
	Name string // of the file or folder; what an open file was called when it was opened
	To   string // of a Rename
	Off  int64  // of a Write or Read
	Len  int    // of a Read: how many bytes are wanted
	Data []byte // of a Write: what it wrote
	Err  error  // what it failed with; then it has changed nothing, except as its Fault says

	id      int // of the file
	dropped bool
}

func (o Op) String() string {
	s := fmt.Sprintf("%d %s %s", o.N, o.Kind, o.Name)
	switch o.Kind {
	case Rename:
		s += " to " + o.To
	case Write:
		s += fmt.Sprintf(" %d bytes at %d", len(o.Data), o.Off)
	}
	return s
}

// Fault is how an operation fails.
type Fault struct {
	Err   error // what it returns
	Short int   // a Write writes this many bytes before it fails
	Drop  bool  // a Sync forgets what it should have written: it can be read, but no later Sync makes it durable
}

var (
	// ErrIO is what a broken device says.
	ErrIO error = syscall.EIO
	// ErrFull is what a full device says.
	ErrFull error = syscall.ENOSPC

	errBusy = errors.New("file is open")
)

// Inject installs a function that is asked before every operation, and returns nil for one that is to succeed. It may
// block, which holds up that operation and no other. nil takes it away.
func (f *FS) Inject(fault func(Op) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject = fault
}

// FailOnce makes operation n fail with err, and no other.
func (f *FS) FailOnce(n int, err error) {
	f.Inject(func(op Op) *Fault {
		if op.N != n || op.Kind >= ReadDir {
			return nil
		}
		return &Fault{Err: err}
	})
}

// FailFrom makes operation n and all after it fail with err.
func (f *FS) FailFrom(n int, err error) {
	f.Inject(func(op Op) *Fault {
		if op.N < n || op.Kind >= ReadDir {
			return nil
		}
		return &Fault{Err: err}
	})
}

// SetFree says by how many bytes files may still grow, in sum, before a write fails with ErrFull; it then has written
// what fitted. Removing a file gives its bytes back. A negative number is no limit.
func (f *FS) SetFree(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = bytes
}
