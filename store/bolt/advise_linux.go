package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// adviseRandom has the system read no more of a file than it is asked for: pages far
// from each other would each bring in their neighbours.
func adviseRandom(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) }
