//go:build !windows

package wal

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the entries of a folder durable (R1).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// IsFull tells the errors that say "no room", which may pass, from those that say "broken", which do not.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
