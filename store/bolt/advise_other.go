//go:build !linux

package bolt

import "os"

// adviseRandom does nothing: reading too much is no error.
func adviseRandom(*os.File) {}
