package bolt

// White box: that places share keys is not to be seen from outside.

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// dueModel is a due bucket beside a plain list of what it has to list.
type dueModel struct {
	db     *bbolt.DB
	listed []place // sorted
}

var dueQueues = []queueName{
	{class: outbox.High, name: "a"}, {name: "a"}, {name: "b"}, {name: "longer"}, {}, {legacy: true},
}

// drawPlace draws one of few places, so that many are met again.
func drawPlace(t *rapid.T) place {
	p := place{queue: rapid.SampledFrom(dueQueues).Draw(t, "queue")}
	p.when = rapid.Int64Range(0, 40).Draw(t, "when")
	p.id[15] = rapid.ByteRange(1, 6).Draw(t, "id")
	if p.queue.legacy {
		p.when += 1 << 60 // a time of our age: see legacyByte
	}
	return p
}

func (m *dueModel) tell(p place, here bool) {
	i, found := slices.BinarySearchFunc(m.listed, p, place.compare)
	switch {
	case here && !found:
		m.listed = slices.Insert(m.listed, i, p)
	case !here && found:
		m.listed = slices.Delete(m.listed, i, i+1)
	}
}

// change is one transaction: a number of places come and go, in any order.
func (m *dueModel) change(t *rapid.T) {
	before := slices.Clone(m.listed)
	keep := rapid.IntRange(0, 9).Draw(t, "commit") > 0
	err := m.db.Update(func(tx *bbolt.Tx) error {
		l := lister{due: tx.Bucket(bucketDue)}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0: // some that follow each other
				p := drawPlace(t)
				for range rapid.IntRange(1, 150).Draw(t, "run") {
					p.when++
					require.NoError(t, l.add(p))
					m.tell(p, true)
				}
			case 1:
				p := drawPlace(t)
				require.NoError(t, l.add(p))
				m.tell(p, true)
			case 2: // all of a queue, oldest first, as a drain does
				q := rapid.SampledFrom(dueQueues).Draw(t, "drained")
				require.NoError(t, l.settle())
				for _, p := range slices.Clone(m.listed) {
					if p.queue == q {
						require.NoError(t, l.remove(p))
						m.tell(p, false)
					}
				}
			case 3:
				require.NoError(t, l.settle())
				for range rapid.IntRange(1, 20).Draw(t, "removed") {
					p := drawPlace(t)
					if n := len(m.listed); n > 0 && rapid.Bool().Draw(t, "known") {
						p = m.listed[rapid.IntRange(0, n-1).Draw(t, "which")]
					}
					require.NoError(t, l.remove(p))
					m.tell(p, false)
				}
			case 4: // moved
				if n := len(m.listed); n > 0 {
					p := m.listed[rapid.IntRange(0, n-1).Draw(t, "moved")]
					require.NoError(t, l.settle())
					require.NoError(t, l.remove(p))
					m.tell(p, false)
					p.when += rapid.Int64Range(1, 50).Draw(t, "by")
					require.NoError(t, l.add(p))
					m.tell(p, true)
				}
			}
		}
		require.NoError(t, l.settle())
		if !keep {
			return errLookOnly
		}
		return nil
	})
	if !keep {
		m.listed = before
		require.ErrorIs(t, err, errLookOnly)
		return
	}
	require.NoError(t, err)
}

// check reads the bucket in all ways that there are.
func (m *dueModel) check(t *rapid.T) {
	require.NoError(t, m.db.View(func(tx *bbolt.Tx) error {
		due := tx.Bucket(bucketDue)
		c := &placeCursor{c: due.Cursor()}
		read := func(step func()) []place {
			all := []place{}
			for ; c.k != nil; step() {
				p, ok := placeOf(c.k)
				require.True(t, ok)
				all = append(all, place{p.queue, c.spot()})
			}
			require.NoError(t, c.err)
			return all
		}
		c = c.first()
		require.Equal(t, m.listed, read(c.next))
		end := bytes.Repeat([]byte{0xff}, 8)
		c.seekBack(end)
		back := read(c.prev)
		slices.Reverse(back)
		require.Equal(t, m.listed, back)

		p := drawPlace(t)
		i, found := slices.BinarySearchFunc(m.listed, p, place.compare)
		require.Equal(t, found, lists(due, p))
		c.seek(p.key())
		require.Equal(t, slices.Clone(m.listed[i:]), read(c.next))
		c.seekBack(p.key())
		back = read(c.prev)
		slices.Reverse(back)
		if found {
			i++
		}
		require.Equal(t, m.listed[:i], back)
		require.Empty(t, c.bad)
		return due.ForEach(func(k, v []byte) error {
			spots, err := readSheet(nil, k, v)
			require.LessOrEqual(t, len(spots), sheetMost)
			return err
		})
	}))
}

// What a transaction adds and removes is what is listed then, in order, however it shares
// keys; looking for a place comes upon it from both sides.
func TestLister_Model(t *testing.T) {
	dir := t.TempDir()
	lives := 0
	rapid.Check(t, func(t *rapid.T) {
		lives++
		db, err := bbolt.Open(filepath.Join(dir, "due.db"), 0o600, &bbolt.Options{NoSync: true, PageSize: 1024})
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			if tx.Bucket(bucketDue) != nil {
				require.NoError(t, tx.DeleteBucket(bucketDue))
			}
			_, err := tx.CreateBucket(bucketDue)
			return err
		}))
		m := &dueModel{db: db, listed: []place{}}
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			m.change(t)
			m.check(t)
		}
	})
	require.Positive(t, lives)
}

// Tasks that came together share a key: this is what it is for.
func TestLister_Shares(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "due.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, step := range []struct {
		do   func(l *lister, p place) error
		keys int
	}{{(*lister).add, 10}, {(*lister).remove, 0}} {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			due, err := tx.CreateBucketIfNotExists(bucketDue)
			require.NoError(t, err)
			l := lister{due: due}
			for i := range int64(10 * sheetSpots) {
				require.NoError(t, step.do(&l, place{queueName{name: "n"}, spot{when: i}}))
			}
			return l.settle()
		}))
		require.NoError(t, db.View(func(tx *bbolt.Tx) error {
			require.Equal(t, step.keys, tx.Bucket(bucketDue).Stats().KeyN)
			return nil
		}))
	}
}

// A sheet that is damaged says so, and still tells what its key is.
func TestSheet_Damaged(t *testing.T) {
	first := place{queueName{name: "n"}, spot{when: 5}}
	k := first.key()
	v := appendSheet(nil, k, []spot{{when: 6}, {when: 6, id: outbox.ID{1}}, {when: 1 << 40}})
	spots, err := readSheet(nil, k, v)
	require.NoError(t, err)
	require.Len(t, spots, 4)
	for i := range 8 * len(v) {
		bad := slices.Clone(v)
		bad[i/8] ^= 1 << (i % 8)
		spots, err := readSheet(nil, k, bad)
		require.ErrorIs(t, err, outbox.ErrCorrupt)
		require.Equal(t, []spot{first.spot}, spots)
	}
	first.when++
	_, err = readSheet(nil, first.key(), v)
	require.ErrorIs(t, err, outbox.ErrCorrupt, "it stands under another key")
}

// Whatever a sheet says, with the right checksum too: it is read, or refused.
func FuzzSheet(f *testing.F) {
	k := place{queueName{name: "n"}, spot{when: 5}}.key()
	good := appendSheet(nil, k, []spot{{when: 6}, {when: 1 << 60, id: outbox.ID{1}}})
	f.Add(good[:len(good)-crcSize])
	f.Fuzz(func(t *testing.T, value []byte) {
		spots, err := readSheet(nil, k, withCRC(k, slices.Clone(value)))
		if err != nil {
			require.ErrorIs(t, err, outbox.ErrCorrupt)
			require.Len(t, spots, 1)
			return
		}
		require.True(t, slices.IsSortedFunc(spots, spot.compare))
		again, err := readSheet(nil, k, appendSheet(nil, k, spots[1:]))
		require.NoError(t, err)
		require.Equal(t, spots, again)
	})
}
