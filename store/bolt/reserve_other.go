//go:build !linux && !windows

package bolt

import "os"

const (
	reserves     = true
	reservesFree = false
)

// allocateBlocks gives the file blocks for this part, which nothing of worth is in,
// and makes that durable.
func allocateBlocks(f *os.File, from, end int64) error { return writeZeros(f, from, end) }
