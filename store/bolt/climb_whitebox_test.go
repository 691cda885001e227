package bolt

// White box: a page whose keys do not rise is not easily made, and bbolt hands out what is
// in it.

import (
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

func TestClimb(t *testing.T) {
	up := climb{from: []byte("b")}
	require.ErrorIs(t, up.to([]byte("a"), bucketDue), outbox.ErrCorrupt, "below what was sought")
	require.NoError(t, up.to([]byte("b"), bucketDue))
	require.ErrorIs(t, up.to([]byte("b"), bucketDue), outbox.ErrCorrupt, "the same again")
	require.NoError(t, up.to([]byte("c"), bucketDue))
	require.ErrorIs(t, up.to([]byte("bb"), bucketDue), outbox.ErrCorrupt, "back")
	up = climb{last: []byte("b")}
	require.ErrorIs(t, up.to([]byte("b"), bucketDue), outbox.ErrCorrupt, "what was listed last")
}
