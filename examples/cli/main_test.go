package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// asProgram in the environment makes the test binary be the program.
const asProgram = "CLI_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// call runs the program.
func call(t *testing.T, args ...string) (status int, output string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestStory(t *testing.T) {
	status, out := call(t)
	require.Zero(t, status, out)
	require.Contains(t, out, "each once")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"add"}, {"add", "name"}, {"fly"}, {"-nosuch"}, {"drain", "now"}, {"-dir", t.TempDir()}} {
		status, out := call(t, args...)
		require.Equal(t, statusUsage, status, "%v: %s", args, out)
		require.Contains(t, out, "usage: cli")
	}
}

func TestAdd_BadJSON(t *testing.T) {
	status, out := call(t, "-dir", t.TempDir(), "add", "a", "{")
	require.Equal(t, statusFailed, status)
	require.Contains(t, out, "not JSON")
}

// Calls that meet wait for each other, and none loses its event.
func TestAdd_Together(t *testing.T) {
	dir := t.TempDir()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			status, out := call(t, "-dir", dir, "-budget", "30s", "add", "tick", "1")
			if status != statusOK {
				t.Errorf("status %d: %s", status, out)
			}
		})
	}
	calls.Wait()
	status, out := call(t, "-dir", dir, "list")
	require.Zero(t, status)
	require.Equal(t, 8, strings.Count(out, "tick"), out)
}

func TestDrain(t *testing.T) {
	dir := t.TempDir()
	var got bytes.Buffer
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = got.ReadFrom(r.Body)
		got.WriteString(r.Header.Get("Event-Name"))
	}))
	defer server.Close()
	status, out := call(t, "-dir", dir, "add", "greeting", `"hello "`)
	require.Zero(t, status, out)
	status, out = call(t, "-dir", dir, "-url", server.URL, "drain")
	require.Zero(t, status, out)
	require.Contains(t, out, "delivered 1, will be retried 0, dead 0, waiting 0")
	require.Equal(t, `"hello "greeting`, got.String())
	status, out = call(t, "-dir", dir, "-url", server.URL, "drain")
	require.Zero(t, status)
	require.Contains(t, out, "delivered 0")
}
