package wal

import (
	"io"
	"os"
)

// FS is the little that the log needs of a file system. Names are paths as package path/filepath joins them.
// Its errors match those of package os, so that errors.Is works with fs.ErrExist and syscall.ENOSPC. It must be
// safe for concurrent use. Package waltest has one that crashes and fails on demand.
type FS interface {
	// Mkdir makes one folder, and returns an error that is fs.ErrExist when the name is taken.
	Mkdir(dir string) error
	// ReadDir returns the names in a folder, in any order.
	ReadDir(dir string) ([]string, error)
	// SyncDir makes the entries of a folder durable: what was created, renamed and removed.
	SyncDir(dir string) error
	// Create makes a new empty file, open for reading and writing. It refuses a name that is taken.
	Create(name string) (File, error)
	// Open opens a file that exists, for reading and writing.
	Open(name string) (File, error)
	// Rename gives a file another name, atomically.
	Rename(from, to string) error
	// Remove takes a file away.
	Remove(name string) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes the bytes and the size durable. After an error nothing may be assumed about any byte written
	// since the last Sync that returned nil (R9).
	Sync() error
	Size() (int64, error)
	Close() error
}

// OS is the file system of the operating system, the default of Options.FS.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Mkdir(dir string) error       { return os.Mkdir(dir, 0o700) }
func (osFS) SyncDir(dir string) error     { return syncDir(dir) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return newOSFile(f), nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return newOSFile(f), nil
}

// openRead opens a file that may be on a device, or in a folder, that cannot be written to.
func (osFS) openRead(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return newOSFile(f), nil
}

// osFile is a file of the operating system. Sync is per system: see os_linux.go and its neighbours.
type osFile struct {
	*os.File
	fd int // the descriptor, asked for once: os.File.Fd is not free
}

func newOSFile(f *os.File) *osFile { return &osFile{File: f, fd: int(f.Fd())} }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
