//go:build unix

package bolt_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A folder that may not be written is refused with its name. Root may write
// everywhere, so for root a child process tries it as nobody.
func TestOpen_WithoutPermission(t *testing.T) {
	if os.Geteuid() != 0 {
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0o500))
		wantRefused(t, dir, os.ErrPermission, dir)
		return
	}
	top, err := os.MkdirTemp("", "goutbox") // not t.TempDir, whose parents nobody may enter
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(top)) })
	require.NoError(t, os.Chmod(top, 0o755))
	dir := filepath.Join(top, "store")
	require.NoError(t, os.Mkdir(dir, 0o700))

	exe := filepath.Join(top, "test")
	copyFile(t, exe)
	child := exec.Command(exe)
	child.Dir = top
	child.Env = append(os.Environ(), childEnv+"=kill", "GOUTBOX_TEST_DIR="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), dir)
	require.Contains(t, string(out), "permission denied")
}

// copyFile copies this test binary to a place where everybody may run it.
func copyFile(t *testing.T, to string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	in, err := os.Open(exe)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}
