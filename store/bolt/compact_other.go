//go:build !unix || solaris || illumos || aix

package bolt

import "os"

// compactsLive is false where an open file can not be replaced (windows), and where a
// lock belongs to the process, so that closing one file loses the lock of another. The
// database is compacted by Open there: see compactClosed.
const compactsLive = false

func openAs(open func(string, int, os.FileMode) (*os.File, error), path, _ string, flag int, perm os.FileMode) (*os.File, error) {
	return open(path, flag, perm)
}
