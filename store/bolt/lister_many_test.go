package bolt

// White box: how many places share a key is not to be seen from outside.

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// However many come between two places of a sheet at once, no sheet has more than its bound:
// one that is larger takes pages that follow each other, for which a full database has no
// room (P7, P9).
func TestLister_ManyBetween(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "due.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	at := func(when int64) place { return place{queueName{name: "n"}, spot{when: when}} }
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		due, err := tx.CreateBucket(bucketDue)
		require.NoError(t, err)
		l := lister{due: due}
		require.NoError(t, l.add(at(0)))
		require.NoError(t, l.add(at(1e6)))
		require.NoError(t, l.settle())
		for i := range int64(gatherMost - 1) {
			require.NoError(t, l.add(at(1+i)))
		}
		return l.settle()
	}))
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		n := 0
		defer func() { require.Equal(t, gatherMost+1, n) }()
		return tx.Bucket(bucketDue).ForEach(func(k, v []byte) error {
			spots, err := readSheet(nil, k, v)
			require.LessOrEqual(t, len(spots), sheetMost)
			n += len(spots)
			return err
		})
	}))
}
