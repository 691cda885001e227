package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStory(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, playStory(t.Context(), &out), &out)
	t.Log(out.String())
	require.Contains(t, out.String(), "gap markers")
}

func TestRun_Usage(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, 2, run([]string{"-nosuch"}, &out, &errs))
	require.Equal(t, 2, run([]string{"more"}, &out, &errs))
	require.Equal(t, 1, run([]string{"-broker", "127.0.0.1:1", "-dir", t.TempDir(), "-health", "nonsense"}, &out, &errs))
	require.Contains(t, errs.String(), "nonsense")
}

func TestReceive(t *testing.T) {
	for _, bad := range []string{"GET / HTTP/1.1 x\n", "PUB a b\n", "PUB a b -1\n", "PUB a b 99999999\n", "PUB a b 5\nabc"} {
		_, err := receive(bufio.NewReader(strings.NewReader(bad)))
		require.Error(t, err, bad)
	}
	m, err := receive(bufio.NewReader(strings.NewReader("PUB a b 3\nxyz")))
	require.NoError(t, err)
	require.Equal(t, message{"a", "b", []byte("xyz")}, m)
}
