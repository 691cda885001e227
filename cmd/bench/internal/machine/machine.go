// Package machine says what a measurement runs on, measures what the disk can do
// at most, and reads what the process has used.
package machine

import (
	"os"
	"path/filepath"
	"runtime"
)

// Machine is what the figures depend on.
type Machine struct {
	System     string `json:"system"` // and its kernel
	Arch       string `json:"arch"`
	CPU        string `json:"cpu,omitempty"`
	CPUs       int    `json:"cpus"`
	GoMaxProcs int    `json:"gomaxprocs"`
	Go         string `json:"go"`
	Dir        string `json:"dir"`
	FileSystem string `json:"file_system"`
	Device     string `json:"device,omitempty"`
	WriteCache string `json:"write_cache,omitempty"` // of the device: "write back" has one that a sync must flush
	SyncCall   string `json:"sync_call"`

	InMemory bool `json:"in_memory"` // the file system keeps nothing across a power cut
}

// Unknown stands for what this system does not tell.
const Unknown = "unknown"

// Describe says what it can find out about the machine and the folder.
func Describe(dir string) Machine {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	m := Machine{
		System: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), GoMaxProcs: runtime.GOMAXPROCS(0),
		Go: runtime.Version(), Dir: dir, FileSystem: Unknown, SyncCall: syncCall,
	}
	m.describe()
	m.InMemory = m.FileSystem == "tmpfs" || m.FileSystem == "ramfs"
	return m
}

// Writable returns an error unless files can be made in dir.
func Writable(dir string) error {
	f, err := os.CreateTemp(dir, ".goutbox-bench-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}
