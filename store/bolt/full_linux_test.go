package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// smallDisk mounts a file system with so little room.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("goutbox", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fillAndDie accepts events until the disk is full, says how many, and dies without
// closing the store.
func fillAndDie(dir string) error {
	s, err := bolt.Open(dir, quiet, bolt.WithSegmentBytes(1<<20))
	if err != nil {
		return err
	}
	for accepted := 0; ; accepted++ {
		list := tasks(accepted, 1)
		list[0].Payload = make([]byte, 4000)
		if err := s.Create(context.Background(), list); errors.Is(err, outbox.ErrDiskFull) {
			fmt.Println(accepted)
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		} else if err != nil {
			return err
		}
	}
}

func drain(t *testing.T, s *bolt.Store) (delivered int) {
	t.Helper()
	for got := claim(t, s, 100); len(got) > 0; got = claim(t, s, 100) {
		done(t, s, got...)
		delivered += len(got)
	}
	return delivered
}

// fillDir tells this test binary that it is the child of TestStore_FullDisk.
const fillDir = "GOUTBOX_TEST_FILL_DIR"

func init() {
	if dir := os.Getenv(fillDir); dir != "" {
		fmt.Println("error:", fillAndDie(dir))
		os.Exit(1)
	}
}

// P9: at a full disk accepting fails, and everything else goes on; also when the
// store is killed and opened again there. When there is room again, accepting goes
// on by itself.
func TestStore_FullDisk(t *testing.T) {
	dir := filepath.Join(smallDisk(t, "6m"), "store")
	exe, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), fillDir+"="+dir)
	out, err := child.Output()
	require.Error(t, err, "it was killed")
	accepted, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err, "child said %q", out)
	require.Greater(t, accepted, 200)

	again, err := bolt.Open(dir, quiet, bolt.WithSegmentBytes(1<<20))
	require.NoError(t, err)
	require.EqualValues(t, accepted, stats(t, again).Pending)
	more := 0
	for err == nil { // there may be room for some; then there is none
		if err = again.Create(t.Context(), tasks(accepted, 1)); err == nil {
			more++
		}
	}
	require.ErrorIs(t, err, outbox.ErrDiskFull)
	audit(t, again)
	require.Equal(t, accepted+more, drain(t, again))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, again.Create(t.Context(), tasks(0, 1)))
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, 1, drain(t, again))
	audit(t, again)
	if err := again.Close(); !errors.Is(err, outbox.ErrDiskFull) {
		require.NoError(t, err)
	}
}
