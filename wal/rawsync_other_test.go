//go:build !linux

package wal_test

import "os"

func rawSync(f *os.File) error { return f.Sync() }
