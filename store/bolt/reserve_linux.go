package bolt

import (
	"errors"
	"os"
	"syscall"
)

const (
	reserves     = true
	reservesFree = true // giving blocks to what has them costs nothing
)

// allocateBlocks gives the file blocks for this part, which nothing of worth is in,
// and makes that durable. Blocks that count as never written do here: bbolt's syncs
// go through the journal anyway, and the disk is spared writing everything twice.
func allocateBlocks(f *os.File, from, end int64) error {
	for {
		switch err := syscall.Fallocate(int(f.Fd()), 0, from, end-from); {
		case err == nil:
			return f.Sync()
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return writeZeros(f, from, end)
		default:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}
