//go:build !windows && (!unix || solaris || illumos || aix)

package bolt

import "os"

// tryLock leaves it to bbolt's own lock on the database to keep others away.
func tryLock(*os.File) (busy bool, err error) { return false, nil }

// syncDir does nothing where it is not known how.
func syncDir(string) error { return nil }

// letGo closes a file that is still mapped, and so lets go of the locks on it.
func letGo(f *os.File) error { return f.Close() }
