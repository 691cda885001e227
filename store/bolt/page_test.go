package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// The reader of pages sees in a file what bbolt has written into it, and nothing wrong,
// whatever was written: values of many pages, buckets in buckets, inline and not, and
// deletions that empty pages.
func TestPages_AsBboltWritesThem(t *testing.T) {
	rounds := 60
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		rounds = 3000
	}
	for _, kind := range []bbolt.FreelistType{bbolt.FreelistMapType, bbolt.FreelistArrayType} {
		path := filepath.Join(t.TempDir(), "db")
		db := openDB(t, path, &bbolt.Options{FreelistType: kind, NoSync: true, PageSize: 1024})
		rng := rand.New(rand.NewPCG(3, 4))
		var held map[string]string
		for round := range rounds {
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return scribble(tx, rng, round) }))
			held = map[string]string{}
			require.NoError(t, db.View(func(tx *bbolt.Tx) error {
				return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return dump(held, "/"+string(name), b) })
			}))
			found, wrong, err := bolt.WalkFile(path)
			require.NoError(t, err)
			require.Empty(t, wrong, "round %d", round)
			require.Equal(t, len(held), len(found), "round %d", round)
			for k, v := range held {
				if v != found[k] {
					require.Equal(t, v, found[k], "round %d: %q", round, k)
				}
			}
		}
		require.NotEmpty(t, held)
	}
}

// scribble does something random to some buckets.
func scribble(tx *bbolt.Tx, rng *rand.Rand, round int) error {
	if round%37 == 36 { // alone: in a transaction that has also written to it bbolt loses pages
		return tx.DeleteBucket(fmt.Appendf(nil, "bucket %d", round%5))
	}
	for range 1 + rng.IntN(4) {
		b, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket %d", rng.IntN(5)))
		for err == nil && rng.IntN(2) == 0 {
			b, err = b.CreateBucketIfNotExists(fmt.Appendf(nil, "in %d", rng.IntN(3)))
		}
		if err != nil {
			return err
		}
		most := 1 + rng.IntN(200)
		if rng.IntN(4) == 0 { // delete a run of keys
			c, left := b.Cursor(), most
			for k, v := c.Seek(fmt.Appendf(nil, "k%04d", rng.IntN(1000))); k != nil && left > 0; k, v = c.Next() {
				if left--; v != nil {
					if err := c.Delete(); err != nil {
						return err
					}
				}
			}
			continue
		}
		for range most {
			size := rng.IntN(60)
			if rng.IntN(100) == 0 {
				size = rng.IntN(20000)
			}
			key := fmt.Appendf(nil, "k%04d", rng.IntN(1000))
			if rng.IntN(3) == 0 {
				err = b.Delete(key)
			} else {
				err = b.Put(key, make([]byte, size))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func dump(into map[string]string, path string, b *bbolt.Bucket) error {
	into[path] = "bucket"
	return b.ForEach(func(k, v []byte) error {
		if v == nil && b.Bucket(k) != nil {
			return dump(into, path+"/"+string(k), b.Bucket(k))
		}
		into[path+"/"+string(k)] = string(v)
		return nil
	})
}
