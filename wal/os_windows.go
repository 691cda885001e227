package wal

import (
	"errors"
	"syscall"
)

const (
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
)

// syncDir does nothing: windows cannot sync a folder, and NTFS journals its entries by itself.
func syncDir(string) error { return nil }

// IsFull tells the errors that say "no room", which may pass, from those that say "broken", which do not.
func IsFull(err error) bool {
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull) || errors.Is(err, syscall.ENOSPC)
}
