package bolt_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/wal"
	"github.com/stretchr/testify/require"
)

// slowFS is a disk that takes its time to make a file, when it is told to.
type slowFS struct {
	wal.FS
	slow   atomic.Bool
	making chan chan struct{} // from Rename, which then waits for the channel to be closed
}

func (f *slowFS) Rename(from, to string) error {
	if strings.HasSuffix(to, ".spare") && f.slow.CompareAndSwap(true, false) {
		wait := make(chan struct{})
		f.making <- wait
		<-wait
	}
	return f.FS.Rename(from, to)
}

// Memory is full and the disk is slow: accepting waits for it. It is ErrFull only if
// nothing is done about it, because an application's transaction is in the way.
func TestStore_FullWhileTheDiskIsSlow(t *testing.T) {
	dir := t.TempDir()
	disk := &slowFS{FS: logDisk(t, dir), making: make(chan chan struct{})}
	s := open(t, dir, bolt.WithOverlay(20, 40), bolt.WithSegmentBytes(64<<10), bolt.WithLogFS(disk))
	accepted, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := range 2000 {
			if i == 300 { // there are spares by now, so it is not the log that waits for one
				disk.slow.Store(true)
			}
			if err := s.Create(t.Context(), tasks(i, 1)); err != nil {
				failed <- err
				return
			}
		}
		close(accepted)
	}()
	select {
	case wait := <-disk.making: // a spare segment, after a checkpoint; memory fills up meanwhile
		time.AfterFunc(1500*time.Millisecond, func() { close(wait) }) // longer than accepting waits for nothing
	case err := <-failed:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("no spare was made")
	}
	select {
	case <-accepted:
	case err := <-failed:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("accepting hangs")
	}
	require.EqualValues(t, 2000, stats(t, s).Pending)
}
