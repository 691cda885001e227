package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, 2, strings.Count(out.String(), "  delivered: [o-1]\n"), out.String())
	require.Equal(t, 2, strings.Count(out.String(), "o-2 is refused (out of stock: 4 "), out.String())
}
