package machine

import (
	"os"
	"syscall"
)

// dataSync is the cheapest call that makes overwritten blocks durable.
func dataSync(f *os.File, fd uintptr) error {
	for {
		if err := syscall.Fdatasync(int(fd)); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
