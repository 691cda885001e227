//go:build unix && !solaris && !illumos && !aix

package bolt

import (
	"os"
	"syscall"
)

// compactsLive says that a file can be replaced while it is open, and that locks belong
// to the open file, so that bbolt's go on with it.
const compactsLive = true

// openAs opens the file called path, for bbolt to know it as name: it will have that
// name when it is in use, and a failure to open it is wanted before, not after.
func openAs(open func(string, int, os.FileMode) (*os.File, error), path, name string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := open(path, flag, perm)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := duplicateFD(f)
	if err != nil {
		return nil, &os.PathError{Op: "dup", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func duplicateFD(f *os.File) (int, error) {
	syscall.ForkLock.RLock() // no child may inherit it
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Dup(int(f.Fd()))
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, err
}
