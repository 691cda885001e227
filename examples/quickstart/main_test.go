package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram in the environment makes the test binary be the program; the processes
// that it starts inherit it. So what is tested is what was compiled for the test,
// with the race detector if it is on.
const asProgram = "QUICKSTART_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program returns the program, ready to start, with a folder for temporary files of
// its own.
func program(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	tmp = t.TempDir()
	cmd = exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+tmp, "TEMP="+tmp, "TMP="+tmp)
	return cmd, tmp
}

// play runs the program to its end.
func play(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd, tmp := program(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Logf("quickstart %s\n%s%s", strings.Join(args, " "), out.String(), errs.String())
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files are left")
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// endpoint is an HTTP server that answers as it is told, and notes what it has taken.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
}

// newEndpoint has answer return the status for an order that comes for the n-th time.
func newEndpoint(t *testing.T, answer func(body string, n int) int) *endpoint {
	e := &endpoint{}
	seen := map[string]int{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		seen[string(body)]++
		status := http.StatusBadRequest
		if err == nil && r.Method == http.MethodPost && r.Header.Get("Idempotency-Key") != "" {
			status = answer(string(body), seen[string(body)])
		}
		if status/100 == 2 {
			e.bodies = append(e.bodies, string(body))
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, "the endpoint has looked at it")
	}))
	t.Cleanup(e.Close)
	return e
}

func always(status int) func(string, int) int { return func(string, int) int { return status } }

// taken returns the orders of one customer that the endpoint has taken, in its order.
func (e *endpoint) taken(customer string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var bodies []string
	for _, b := range e.bodies {
		if strings.Contains(b, fmt.Sprintf("%q", customer)) {
			bodies = append(bodies, b)
		}
	}
	return bodies
}

// orderLines returns so many orders of each of the customers ada and bob.
func orderLines(n int) (all string, of map[string][]string) {
	of = map[string][]string{}
	var lines strings.Builder
	for i := range n {
		for _, customer := range []string{"ada", "bob"} {
			l := fmt.Sprintf(`{"id":"%s-%d","customer":"%s","cents":%d}`, customer, i, customer, 100+i)
			of[customer] = append(of[customer], l)
			lines.WriteString(l + "\n")
		}
	}
	return lines.String(), of
}

func TestForward_StandardInput(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, always(http.StatusAccepted))
	in, of := orderLines(20)
	status, out, _ := play(t, "\n"+in, "-url", e.URL, "-in", "-", "-dir", t.TempDir(), "-ack")
	require.Equal(t, 0, status)
	require.Contains(t, out, "accepted 41\n40 orders accepted, 40 delivered\n")
	require.Equal(t, of["ada"], e.taken("ada"))
	require.Equal(t, of["bob"], e.taken("bob"))
}

func TestForward_RetriesInOrder(t *testing.T) {
	t.Parallel()
	in, of := orderLines(10)
	file := filepath.Join(t.TempDir(), "in.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(in), 0o600))
	e := newEndpoint(t, func(body string, n int) int {
		if n == 1 && body == of["ada"][3] {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	status, out, _ := play(t, "", "-url", e.URL, "-in", file, "-dir", t.TempDir())
	require.Equal(t, 0, status)
	require.Equal(t, "20 orders accepted, 20 delivered\n", out)
	require.Equal(t, of["ada"], e.taken("ada"))
}

func TestForward_RefusedForEver(t *testing.T) {
	t.Parallel()
	in, of := orderLines(10)
	e := newEndpoint(t, func(body string, _ int) int {
		if body == of["ada"][3] || body == of["ada"][9] {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	dir := t.TempDir()
	status, out, errs := play(t, in, "-url", e.URL, "-in", "-", "-dir", dir)
	require.Equal(t, 1, status)
	require.Contains(t, out, "20 orders accepted, 18 delivered\n2 dead letters are kept in "+dir+", 2 of them new\n")
	require.Contains(t, out, "422 Unprocessable Entity: the endpoint has looked at it\n")
	require.Contains(t, errs, "quickstart: the destination has refused 2 orders for good\n")
	require.Equal(t, append(of["ada"][:3:3], of["ada"][4:9]...), e.taken("ada"), "those behind it go on")
	require.Equal(t, of["bob"], e.taken("bob"))

	status, out, _ = play(t, "", "-url", e.URL, "-in", "-", "-dir", dir)
	require.Equal(t, 0, status, "dead letters of earlier runs do not make every later run fail")
	require.Contains(t, out, "2 dead letters are kept in "+dir+", 0 of them new\n")
}

func TestForward_UnreachableThenContinued(t *testing.T) {
	t.Parallel()
	in, of := orderLines(10)
	e := newEndpoint(t, always(http.StatusOK))
	held, err := holdPort()
	require.NoError(t, err)
	defer held.Close()
	dir := t.TempDir()
	status, out, errs := play(t, in, "-url", "http://"+held.LocalAddr().String(), "-in", "-", "-dir", dir, "-wait", "0")
	require.Equal(t, 1, status)
	require.Equal(t, "20 orders accepted, 0 delivered\n20 orders wait in "+dir+
		"\nto go on, give the same command again with -skip 20\n", out)
	require.Contains(t, errs, "quickstart: nothing got through for 0s: ")

	status, out, _ = play(t, in, "-url", e.URL, "-in", "-", "-dir", dir, "-skip", "20")
	require.Equal(t, 0, status)
	require.Equal(t, "waiting 20 from an earlier run\n0 orders accepted, 20 delivered\n", out)
	require.Equal(t, of["ada"], e.taken("ada"))
	require.Equal(t, of["bob"], e.taken("bob"))
}

func TestForward_BadLine(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, always(http.StatusOK))
	in, _ := orderLines(2)
	status, out, errs := play(t, in+"{\"id\"\n"+in, "-url", e.URL, "-in", "-", "-dir", t.TempDir())
	require.Equal(t, 1, status)
	require.Contains(t, out, "4 orders accepted, ")
	require.Contains(t, out, "-skip 4\n")
	require.Contains(t, errs, "quickstart: line 5 of the input: ")
}

func TestFlags_Wrong(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"-x", "orders.ndjson", "-in -", "-dir d", "-url :", "-url ftp://host/", "-url http:///path",
		"-url http://h -skip -1", "-url http://h -wait soon", "-url http://h -dir=",
	} {
		var out, errs bytes.Buffer
		status := run(strings.Fields(args), strings.NewReader(""), &out, &errs)
		require.Equal(t, 2, status, args)
		require.Empty(t, out.String(), args)
		require.Equal(t, 1, strings.Count(errs.String(), "\n"), args)
		require.Regexp(t, `^quickstart: .+ \(quickstart -h lists the flags\)\n$`, errs.String(), args)
	}
	status, _, _ := play(t, "", "-x")
	require.Equal(t, 2, status)
	status, _, errs := play(t, "", "-h")
	require.Equal(t, 0, status)
	require.Contains(t, errs, "-skip N")
}
