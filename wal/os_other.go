//go:build !linux

package wal

// Sync is as strong as the system has it: F_FULLFSYNC on darwin, FlushFileBuffers on windows.
func (f *osFile) Sync() error { return f.File.Sync() }
