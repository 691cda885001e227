package wal

import (
	"os"
	"syscall"
)

// Sync calls fdatasync, which leaves out the times of the file and so costs no journal commit when size and
// blocks stay as they are. EINTR means nothing has happened yet: the call is made again (R12).
func (f *osFile) Sync() error {
	for {
		err := syscall.Fdatasync(f.fd)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}
