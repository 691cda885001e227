package main

import (
	"fmt"
	"os"

	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
)

// makeFolder makes the temporary folder that everything happens in: below the
// chosen one, or below the first that will do. The caller removes it.
func makeFolder(c *config) (string, machine.Machine, error) {
	parents := []string{c.dir}
	if c.dir == "" {
		parents = []string{".", os.TempDir()}
	}
	var first error
	for _, parent := range parents {
		m := machine.Describe(parent)
		err := usable(c, parent, m)
		if err == nil {
			var dir string
			if dir, err = os.MkdirTemp(m.Dir, "goutbox-bench-*"); err == nil {
				m.Dir = dir
				return dir, m, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	return "", machine.Machine{}, first
}

// usable says why a folder will not do.
func usable(c *config, dir string, m machine.Machine) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("-dir: %w", err)
	case !info.IsDir():
		return fmt.Errorf("-dir: %s is a file, not a folder", dir)
	}
	if err := machine.Writable(dir); err != nil {
		return fmt.Errorf("-dir: cannot write to %s: %w", m.Dir, err)
	}
	if m.InMemory && !c.allowTmpfs {
		return fmt.Errorf("-dir: %s is on %s, which is memory: nothing there is durable. Choose a folder on a disk, or say -allow-tmpfs", m.Dir, m.FileSystem)
	}
	return nil
}
