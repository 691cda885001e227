package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// folderLock is the lock of a store's folder, held from before the first look at
// its files until the store is closed (R7). The file says which process has it and
// stays behind; it is the lock on it that counts.
type folderLock struct{ file *os.File }

// lockFolder takes the lock, or says within half a second who has it.
func lockFolder(dir string) (*folderLock, error) {
	f, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for people to read; nothing depends on it
	}
	return &folderLock{f}, nil
}

// takeLock is lockFolder without writing into the file.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bolt: open %s: %w", dir, err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		busy, err := tryLock(f)
		if err == nil {
			return f, nil
		}
		if !busy {
			return nil, errors.Join(fmt.Errorf("bolt: lock %s: %w", path, err), f.Close())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%w: %s is open%s", outbox.ErrLocked, dir, holder(f)), f.Close())
		}
	}
}

// holder says which process wrote its number into the lock file.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return " in process " + pid
	}
	return " in another process"
}

func (l *folderLock) release() error { return l.file.Close() }
