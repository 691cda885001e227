package bolt_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// alike are events of one name, as most are: they share keys of the due bucket.
func alike(n int) []outbox.Task {
	list := make([]outbox.Task, n)
	for i := range list {
		list[i] = outbox.Task{Event: outbox.Event{Name: "alike", Payload: fmt.Appendf(nil, "%d", i)}}
	}
	return list
}

// alikeInDatabase returns a closed store of them.
func alikeInDatabase(t *testing.T, n int) (dir string, made []outbox.Task) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	made = create(t, s, alike(n)...)
	require.NoError(t, s.Close())
	return dir, made
}

// dueBucket has f change the due bucket of a closed store.
func dueBucket(t *testing.T, dir string, f func(due *bbolt.Bucket)) {
	t.Helper()
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		f(tx.Bucket([]byte("goutbox")).Bucket([]byte("due")))
		return nil
	}))
	require.NoError(t, db.Close())
}

func payloads(list []outbox.Task) (all []string) {
	for _, task := range list {
		all = append(all, string(task.Payload))
	}
	return all
}

// What waits takes less than a key for each, and is claimed from both ends in its order,
// whatever a claim leaves behind in the middle.
func TestSheet_BothEnds(t *testing.T) {
	dir, made := alikeInDatabase(t, 200)
	dueBucket(t, dir, func(due *bbolt.Bucket) {
		keys := 0
		require.NoError(t, due.ForEach(func(_, v []byte) error {
			require.NotEmpty(t, v)
			keys++
			return nil
		}))
		require.Less(t, keys, 10)
	})
	want := payloads(made)
	s := open(t, dir)
	newest := func(n int) []outbox.Task {
		got, err := s.Claim(t.Context(), outbox.ClaimRequest{Max: n, Lease: time.Hour, Newest: true})
		require.NoError(t, err)
		return got.Tasks
	}
	for len(want) > 0 {
		n := min(7, len(want))
		got := newest(n)
		back := slices.Clone(want[len(want)-n:])
		slices.Reverse(back)
		require.Equal(t, back, payloads(got))
		done(t, s, got...)
		want = want[:len(want)-n]
		require.NoError(t, s.Flush())
		audit(t, s)

		n = min(5, len(want))
		got = claim(t, s, n)
		require.Equal(t, want[:n], payloads(got))
		done(t, s, got...)
		want = want[n:]
		require.NoError(t, s.Flush())
		audit(t, s)
	}
	require.NoError(t, s.Close())
	dueBucket(t, dir, func(due *bbolt.Bucket) {
		k, _ := due.Cursor().First()
		require.Nil(t, k, "nothing is left behind")
	})
}

// A damaged task in a sheet, the first, one in the middle, and the last, is set apart, and
// the others flow in their order (P11).
func TestSheet_DamagedTask(t *testing.T) {
	for kind, how := range damages {
		for _, victim := range []int{0, 17, 31, 32, 99} {
			t.Run(fmt.Sprint(kind, " ", victim), func(t *testing.T) {
				t.Parallel()
				dir, made := alikeInDatabase(t, 100)
				spoil(t, dir, "tasks", made[victim].ID[:], how)
				s := open(t, dir)
				require.Equal(t, slices.Delete(payloads(made), victim, victim+1), payloads(claim(t, s, 200)))
				damagedNow(t, s, made[victim].ID)
				require.NoError(t, s.Flush())
				audit(t, s)
				require.NoError(t, s.Close())
				audit(t, open(t, dir))
			})
		}
	}
}

// A damaged sheet loses nothing: Verify tells, and it is made anew from the tasks, when a
// small store is opened and when a claim comes upon it (P11).
func TestSheet_DamagedIndex(t *testing.T) {
	flip := func(at int) func(k, v []byte) []byte {
		return func(_, v []byte) []byte { v[at] ^= 1; return v }
	}
	for what, how := range map[string]func(k, v []byte) []byte{
		"version": flip(0), "time": flip(1), "ID": flip(9),
		"empty": func(_, _ []byte) []byte { return nil },
		"cut":   func(_, v []byte) []byte { return v[:len(v)-20] },
		"other": func(k, _ []byte) []byte { return k },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			damage := func(dir string) {
				dueBucket(t, dir, func(due *bbolt.Bucket) {
					k, v := due.Cursor().First()
					require.NoError(t, due.Put(slices.Clone(k), how(slices.Clone(k), slices.Clone(v))))
				})
			}
			dir, made := alikeInDatabase(t, 100)
			damage(dir)
			r := verify(t, dir)
			require.False(t, r.OK())
			s := open(t, dir)
			audit(t, s)
			require.Equal(t, payloads(made), payloads(claim(t, s, 200)))
			require.NoError(t, s.Close())
			r = verify(t, dir)
			require.True(t, r.OK(), r.String())

			if what == "empty" { // which says nothing of those behind it, as it is
				return
			}
			dir, made = alikeInDatabase(t, 20_000) // too many to compare them at every opening
			damage(dir)
			s = open(t, dir)
			claim(t, s, 1)
			require.Eventually(t, func() bool {
				_, err := s.Audit(t.Context())
				return err == nil
			}, 30*time.Second, time.Millisecond)
			require.Equal(t, payloads(made)[1:], payloads(claim(t, s, 30_000)))
		})
	}
}

// A damaged sheet loses nothing either when what its key lists ends before anybody has read
// it: what is behind the head is still found (P11, I3).
func TestSheet_DamagedIndexHeadEnds(t *testing.T) {
	dir, made := alikeInDatabase(t, 20_000) // too many to compare them at every opening
	dueBucket(t, dir, func(due *bbolt.Bucket) {
		k, v := due.Cursor().First()
		v = slices.Clone(v)
		v[9] ^= 1
		require.NoError(t, due.Put(slices.Clone(k), v))
	})
	s := open(t, dir)
	n, err := s.Delete(t.Context(), made[0].ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, s.Flush())
	var got []string
	require.Eventually(t, func() bool {
		got = append(got, payloads(claim(t, s, 30_000))...)
		return len(got) >= len(made)-1
	}, 5*time.Second, time.Millisecond)
	require.ElementsMatch(t, payloads(made)[1:], got)
	audit(t, s)
}

// What a sheet names and no page has any more is reported by its ID.
func TestSheet_Salvage(t *testing.T) {
	dir, made := alikeInDatabase(t, 100)
	db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("goutbox")).Bucket([]byte("tasks")).Delete(made[50].ID[:])
	}))
	require.NoError(t, db.Close())
	got, err := bolt.Salvage(dir, quiet)
	require.NoError(t, err)
	require.Equal(t, []outbox.ID{made[50].ID}, got.Lost)
	s := open(t, dir)
	audit(t, s)
	require.Equal(t, slices.Delete(payloads(made), 50, 51), payloads(claim(t, s, 200)))
}
