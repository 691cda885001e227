package main

import (
	"bufio"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	status, out, _ := play(t, "")
	require.Equal(t, 0, status)
	for _, figure := range []string{"accepted 2000", "delivered 2000", "lost 0", "out of order 0"} {
		require.Regexp(t, `(?m)^`+figure+`\b`, out)
	}
	killed, recovered := figure(t, out, "killed at"), figure(t, out, "recovered")
	require.GreaterOrEqual(t, killed, 800)
	require.Contains(t, []int{killed, killed + 1}, recovered)
	require.LessOrEqual(t, figure(t, out, "duplicates"), 1)
}

func figure(t *testing.T, out, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)\b`).FindStringSubmatch(out)
	require.NotNil(t, m, "no figure %q", name)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}

func TestDemo_Interrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent Ctrl-C there")
	}
	cmd, tmp := program(t)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(stdout)
	_, err = out.ReadString('\n') // the process is about to start
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_, err = out.WriteTo(testWriter{t})
	require.NoError(t, err)
	require.Error(t, cmd.Wait())
	require.Equal(t, statusInterrupted, cmd.ProcessState.ExitCode())
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// TestTally_BrokenPromise makes sure that the demonstration does not always say yes.
func TestTally_BrokenPromise(t *testing.T) {
	t.Parallel()
	placed := map[string]order{"a1": {1, "ada"}, "b2": {2, "bob"}, "a3": {3, "ada"}}
	for name, c := range map[string]struct {
		ids       []string
		recovered int
		broken    string
	}{
		"all is well":             {[]string{"b2", "a1", "a1", "a3"}, 2, ""},
		"an old one comes again":  {[]string{"a1", "a3", "a1", "b2"}, 2, ""},
		"one is lost":             {[]string{"a1", "a3"}, 2, "1 orders are lost"},
		"gone after the kill":     {[]string{"a1", "b2", "a3"}, 1, "1 of 2 were there"},
		"one customer's are late": {[]string{"a3", "b2", "a1"}, 2, "1 orders are out of order"},
		"one nobody has placed":   {[]string{"a1", "b2", "a3", "c4"}, 2, "nobody had placed"},
	} {
		d := destination{orders: placed, got: newTally(len(placed))}
		for i, id := range c.ids {
			d.got.add(id, strconv.Itoa(i), placed)
		}
		err := d.tally().print(io.Discard, 2, witness{recovered: c.recovered, accepted: 3})
		if c.broken == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, errBroken, name)
		require.ErrorContains(t, err, c.broken, name)
	}
}

// TestForward_KilledWhileDelivering kills the program again and again, while it takes
// in orders and delivers them.
func TestForward_KilledWhileDelivering(t *testing.T) {
	t.Parallel()
	orders, err := sampleOrders()
	require.NoError(t, err)
	dest, err := newDestination(orders)
	require.NoError(t, err)
	server := httptest.NewServer(dest)
	defer server.Close()
	dir := t.TempDir()

	said := witness{}
	for _, killAt := range []int{300, 700, 1000, 1600, 5000} {
		cmd, _ := program(t, "-url", server.URL, "-dir", dir, "-skip", strconv.Itoa(said.accepted), "-ack")
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		c := child{witness: said, cmd: cmd, out: bufio.NewScanner(stdout)}
		for c.next() {
			if c.accepted >= killAt {
				_ = cmd.Process.Kill()
			}
		}
		err = cmd.Wait()
		if killAt > len(orders) {
			require.NoError(t, err, "the last one ends by itself")
		}
		said = c.witness
	}

	got := dest.tally()
	again := got.posts - len(got.events)
	t.Logf("%d handed in twice, %d delivered twice", len(got.events)-len(got.orders), again)
	require.Equal(t, len(orders), said.accepted)
	require.Len(t, got.orders, len(orders), "lost")
	require.Zero(t, got.disordered)
	require.Zero(t, got.strangers)
	require.LessOrEqual(t, len(got.events)-len(got.orders), 4, "at most one order for each kill")
}
