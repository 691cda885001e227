package wal_test

import (
	"os"
	"syscall"
)

func rawSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
