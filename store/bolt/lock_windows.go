package bolt

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock takes an exclusive lock on the file without waiting. It ends with the
// process at the latest.
func tryLock(f *os.File) (busy bool, err error) {
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	return errors.Is(err, windows.ERROR_LOCK_VIOLATION), err
}

// letGo closes a file that is still mapped, and so lets go of the locks on it.
func letGo(f *os.File) error { return f.Close() }

// syncDir does nothing: Windows has no sync of a folder.
func syncDir(string) error { return nil }
