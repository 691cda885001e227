package bolt_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// spoil changes values in the database of a closed store. f gets a copy of the value
// and returns what is to be there instead.
func spoil(t *testing.T, dir, bucket string, key []byte, f func(v []byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("goutbox")).Bucket([]byte(bucket))
		v := b.Get(key)
		require.NotNil(t, v)
		return b.Put(key, f(slices.Clone(v)))
	}))
	require.NoError(t, db.Close())
}

// Ways to damage a value.
var (
	flipLast = func(v []byte) []byte { v[len(v)-5] ^= 0x10; return v } // of the payload, or near it
	zeroed   = func(v []byte) []byte { return make([]byte, len(v)) }
	cutShort = func(v []byte) []byte { return v[:3] }
	noise    = func(v []byte) []byte { return bytes.Repeat([]byte{0xA5}, len(v)) }
)

var damages = map[string]func([]byte) []byte{"bit": flipLast, "zeros": zeroed, "cut short": cutShort, "noise": noise}

// logged collects the lines of a store's log.
type logged struct {
	sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

func (l *logged) count(text string) int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.String(), text)
}

// open opens a store that logs to it.
func (l *logged) open(t *testing.T, dir string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(dir, bolt.WithLogger(slog.New(slog.NewTextHandler(l, nil))))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// waiting makes a store whose tasks are all in the database.
func inDatabase(t *testing.T, list ...outbox.Task) (dir string, made map[string]outbox.Task) {
	t.Helper()
	dir, made = t.TempDir(), map[string]outbox.Task{}
	s := open(t, dir)
	for _, task := range create(t, s, slices.Clone(list)...) { // the caller may use it for others
		made[task.Name] = task
	}
	require.NoError(t, s.Close())
	return dir, made
}

func keyed(name, key string) outbox.Task {
	return outbox.Task{Event: outbox.Event{Name: name, Key: key, Payload: []byte(strings.Repeat(name, 10))}}
}

// drainNames claims and settles until nothing is left.
func drainNames(t *testing.T, s *bolt.Store) (order []string) {
	t.Helper()
	for got := claim(t, s, 100); len(got) > 0; got = claim(t, s, 100) {
		for _, task := range got {
			order = append(order, task.Name)
		}
		done(t, s, got...)
	}
	require.NoError(t, s.Sync())
	return order
}

// damagedNow is what a store has to say about the one task that is damaged.
func damagedNow(t *testing.T, s *bolt.Store, id outbox.ID) {
	t.Helper()
	var found []outbox.Task
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		if task.Reason == outbox.ReasonDamaged {
			found = append(found, task)
		}
	}
	require.Len(t, found, 1)
	require.Equal(t, id, found[0].ID)
	require.Equal(t, outbox.Dead, found[0].State)
	require.NotEmpty(t, found[0].Name)
	require.NoError(t, s.Sync())
	require.EqualValues(t, 1, stats(t, s).Damaged)
}

// One damaged value, of any kind of task and damaged in any way, met by a claim: the
// others flow, each key in its order, and it is a dead letter that can be listed and
// deleted, before and after a checkpoint, a crash and a restart (P4, P5, P11).
func TestDamaged_RestFlows(t *testing.T) {
	list := []outbox.Task{
		keyed("plain", ""), keyed("head", "k"), keyed("second", "k"), keyed("third", "k"), keyed("other", "l"), keyed("last", ""),
	}
	for kind, how := range damages {
		for _, victim := range []string{"plain", "head", "second", "third", "other", "last"} {
			t.Run(kind+" "+victim, func(t *testing.T) {
				t.Parallel()
				dir, made := inDatabase(t, list...)
				id := made[victim].ID
				spoil(t, dir, "tasks", id[:], how)
				var lines logged
				s := lines.open(t, dir)
				order := drainNames(t, s)
				require.NotContains(t, order, victim)
				require.Len(t, order, len(list)-1)
				inKey := slices.DeleteFunc(slices.Clone(order), func(name string) bool {
					return name != "head" && name != "second" && name != "third"
				})
				want := slices.DeleteFunc([]string{"head", "second", "third"}, func(name string) bool { return name == victim })
				require.Equal(t, want, inKey, "P4")
				damagedNow(t, s, id)
				audit(t, s)

				crashed := t.TempDir()
				s.Freeze(func() { copyDir(t, dir, crashed) })
				require.NoError(t, s.Flush())
				damagedNow(t, s, id)
				usageIsRight(t, s)
				require.NoError(t, s.Close())
				for _, again := range []string{crashed, dir} {
					s := open(t, again)
					damagedNow(t, s, id)
					usageIsRight(t, s)
					n, err := s.Requeue(t.Context(), id)
					require.ErrorIs(t, err, outbox.ErrCorrupt)
					require.Zero(t, n)
					n, err = s.Delete(t.Context(), id)
					require.NoError(t, err)
					require.Equal(t, 1, n)
					require.Empty(t, names(t, s))
					st := stats(t, s)
					require.Zero(t, st.Dead+st.Pending+st.Damaged)
					require.EqualValues(t, 1, st.DroppedBy.Deleted)
					require.NoError(t, s.Flush())
					usageIsRight(t, s)
					require.Zero(t, stats(t, s).PendingBytes)
				}
				require.Equal(t, 1, lines.count("stored task is damaged"), "logged once:\n%s", lines.String())
			})
		}
	}
}

// Whoever else meets a damaged value: a listing, a deletion, a new event that wants its
// key. It is a dead letter from then on, and in nobody's way.
func TestDamaged_MetBy(t *testing.T) {
	unique, latest := keyed("unique", ""), keyed("latest", "")
	unique.Unique, latest.LatestOnly = "u", "l"
	for kind, how := range damages {
		for what, meet := range map[string]func(t *testing.T, s *bolt.Store, made map[string]outbox.Task) (victim string){
			"listing": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) string {
				require.Len(t, names(t, s), 2)
				return "unique"
			},
			"requeue": func(t *testing.T, s *bolt.Store, made map[string]outbox.Task) string {
				_, err := s.Requeue(t.Context(), made["latest"].ID)
				require.ErrorIs(t, err, outbox.ErrCorrupt)
				return "latest"
			},
			"unique": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) string {
				again := unique
				again.Name = "again"
				create(t, s, again)
				require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{again}), outbox.ErrDuplicate)
				return "unique"
			},
			"latest": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) string {
				again := latest
				again.Name = "again"
				create(t, s, again)
				require.Zero(t, stats(t, s).DroppedBy.Coalesced)
				return "latest"
			},
			"unique, in a transaction": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) string {
				again := unique
				again.Name = "again"
				require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
					return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{again})
				}))
				require.NotEmpty(t, names(t, s))
				return "unique"
			},
			"latest, in a transaction": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) string {
				again := latest
				again.Name = "again"
				require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
					return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{again})
				}))
				require.NotEmpty(t, names(t, s))
				return "latest"
			},
		} {
			t.Run(kind+", "+what, func(t *testing.T) {
				t.Parallel()
				dir, made := inDatabase(t, unique, latest)
				victim := "unique"
				if strings.Contains(what, "latest") || what == "requeue" {
					victim = "latest"
				}
				id := made[victim].ID
				spoil(t, dir, "tasks", id[:], how)
				s := open(t, dir)
				require.Equal(t, victim, meet(t, s, made))
				damagedNow(t, s, id)
				require.NotContains(t, drainNames(t, s), victim)
				require.NoError(t, s.Flush())
				audit(t, s)
				usageIsRight(t, s)
				again := made[victim]
				again.ID, again.Name = outbox.ID{}, "free again"
				create(t, s, again)
				require.Equal(t, []string{"free again"}, drainNames(t, s))
				damagedNow(t, s, id)
			})
		}
	}
}

// The head of a key that is damaged is put in front of its queue by the checkpoint that
// changes its key, beside where it was listed. It is taken out of both places.
func TestDamaged_HeadListedTwice(t *testing.T) {
	for _, kind := range []string{"bit", "noise"} {
		t.Run(kind, func(t *testing.T) {
			dir, made := inDatabase(t, keyed("head", "k"), keyed("second", "k"), keyed("third", "k"))
			id := made["head"].ID
			spoil(t, dir, "tasks", id[:], damages[kind])
			s := open(t, dir, quiet)
			n, err := s.Delete(t.Context(), made["second"].ID)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.NoError(t, s.Flush())
			require.Equal(t, []string{"third"}, drainNames(t, s))
			damagedNow(t, s, id)
			require.NoError(t, s.Flush())
			audit(t, s)
		})
	}
}

// Deleting a damaged task works though nobody has met it before, as does deleting one
// after the other at once.
func TestDamaged_Delete(t *testing.T) {
	dir, made := inDatabase(t, keyed("a", "k"), keyed("b", "k"), keyed("c", ""))
	for _, name := range []string{"a", "c"} {
		id := made[name].ID
		spoil(t, dir, "tasks", id[:], zeroed)
	}
	s := open(t, dir)
	n, err := s.Delete(t.Context(), made["a"].ID, made["c"].ID)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"b"}, drainNames(t, s))
	st := stats(t, s)
	require.EqualValues(t, 2, st.DroppedBy.Deleted)
	require.Zero(t, st.Damaged)
	crashed := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, crashed) })
	require.NoError(t, s.Flush())
	usageIsRight(t, s)
	again := open(t, crashed)
	require.Empty(t, names(t, again))
	require.Equal(t, st.DroppedBy, stats(t, again).DroppedBy)
}

// A dead letter that is damaged stays one, and its count of the ledger as it is.
func TestDamaged_DeadLetter(t *testing.T) {
	for kind, how := range damages {
		t.Run(kind, func(t *testing.T) {
			dir, made := inDatabase(t, keyed("victim", ""), keyed("other", ""))
			s := open(t, dir)
			for _, task := range claim(t, s, 10) {
				settle(t, s, outbox.Bury, 0, task)
			}
			require.NoError(t, s.Close())
			id := made["victim"].ID
			spoil(t, dir, "dead", id[:], how)
			s = open(t, dir)
			require.EqualValues(t, 2, stats(t, s).Dead)
			require.Len(t, names(t, s), 2)
			damagedNow(t, s, id)
			require.EqualValues(t, 2, stats(t, s).Dead)
			require.NoError(t, s.Flush())
			usageIsRight(t, s)
			n, err := s.Requeue(t.Context(), id, made["other"].ID)
			require.ErrorIs(t, err, outbox.ErrCorrupt)
			require.Equal(t, 1, n, "the other one")
			damagedNow(t, s, id)
			n, err = s.Delete(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, []string{"other"}, drainNames(t, s))
		})
	}
}

// A schedule that is damaged costs its task nothing but what it has tried.
func TestDamaged_Schedule(t *testing.T) {
	dir, made := inDatabase(t, keyed("tried", ""), keyed("keyed", "k"))
	s := open(t, dir)
	settle(t, s, outbox.Retry, year, claim(t, s, 2)...)
	require.NoError(t, s.Close())
	for _, name := range []string{"tried", "keyed"} {
		id := made[name].ID
		spoil(t, dir, "retries", id[:], noise)
	}
	s = open(t, dir)
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		require.Equal(t, outbox.Waiting, task.State)
		require.Zero(t, task.Attempts)
		require.Equal(t, strings.Repeat(task.Name, 10), string(task.Payload))
	}
	require.NoError(t, s.Reindex())
	require.ElementsMatch(t, []string{"tried", "keyed"}, drainNames(t, s))
	require.NoError(t, s.Flush())
	require.Zero(t, stats(t, s).Damaged)
}

// What the log still has of a task mends it in the database: that copy was written by a
// checkpoint that did not get to its end.
func TestDamaged_Healed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := create(t, s, keyed("mended", "k"))[0].ID
	before := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, before) })
	require.NoError(t, s.Close())
	cutCheckpoint(t, before, dir)
	spoil(t, before, "tasks", id[:], noise)
	s = open(t, before)
	require.Zero(t, stats(t, s).Damaged)
	require.Equal(t, []string{"mended"}, drainNames(t, s))
}

// cutCheckpoint puts the database of after into the folder before, but for what the last
// transaction of a checkpoint writes.
func cutCheckpoint(t *testing.T, before, after string) {
	t.Helper()
	path := filepath.Join(before, "outbox.db")
	meta := func(path string, f func(b *bbolt.Bucket)) {
		db, err := bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			f(tx.Bucket([]byte("goutbox")).Bucket([]byte("meta")))
			return nil
		}))
		require.NoError(t, db.Close())
	}
	old := map[string][]byte{}
	meta(path, func(b *bbolt.Bucket) {
		for _, k := range []string{"state", "wall"} {
			old[k] = slices.Clone(b.Get([]byte(k)))
		}
	})
	content, err := os.ReadFile(filepath.Join(after, "outbox.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	meta(path, func(b *bbolt.Bucket) {
		for k, v := range old {
			require.NoError(t, b.Put([]byte(k), v))
		}
	})
}

// Records that were written before a value was damaged are replayed onto the damaged
// one: what they say of the ledger is true, and they make nothing look intact.
func TestDamaged_Replay(t *testing.T) {
	for what, do := range map[string]func(t *testing.T, s *bolt.Store, task outbox.Task){
		"done":  func(t *testing.T, s *bolt.Store, task outbox.Task) { settle(t, s, outbox.Done, 0, task) },
		"retry": func(t *testing.T, s *bolt.Store, task outbox.Task) { settle(t, s, outbox.Retry, 0, task) },
		"bury":  func(t *testing.T, s *bolt.Store, task outbox.Task) { settle(t, s, outbox.Bury, 0, task) },
		"buried and requeued": func(t *testing.T, s *bolt.Store, task outbox.Task) {
			settle(t, s, outbox.Bury, 0, task)
			require.NoError(t, s.Sync())
			n, err := s.Requeue(t.Context(), task.ID)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir, made := inDatabase(t, keyed("victim", "k"), keyed("next", "k"))
			s := open(t, dir)
			do(t, s, claim(t, s, 1)[0])
			require.NoError(t, s.Sync())
			crashed := t.TempDir()
			s.Freeze(func() { copyDir(t, dir, crashed) })
			id := made["victim"].ID
			spoil(t, crashed, "tasks", id[:], zeroed)
			again := open(t, crashed)
			require.Equal(t, []string{"next"}, drainNames(t, again))
			require.NoError(t, again.Flush())
			usageIsRight(t, again)
			st := stats(t, again)
			if what == "done" {
				require.Zero(t, st.Dead)
				require.EqualValues(t, 2, st.Delivered)
				return
			}
			damagedNow(t, again, id)
			require.EqualValues(t, 1, st.Dead)
		})
	}
}

// A dead letter that was requeued before its value was damaged waits by the ledger, and
// its bytes go back as they are: a new checksum would make them look intact.
func TestDamaged_ReplayRequeue(t *testing.T) {
	dir, made := inDatabase(t, keyed("victim", "k"), keyed("next", "k"))
	s := open(t, dir)
	settle(t, s, outbox.Bury, 0, claim(t, s, 1)...)
	require.NoError(t, s.Close())
	s = open(t, dir)
	id := made["victim"].ID
	n, err := s.Requeue(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	crashed := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, crashed) })
	for _, how := range damages {
		again := t.TempDir()
		copyDir(t, crashed, again)
		spoil(t, again, "dead", id[:], how)
		s := open(t, again)
		require.Equal(t, []string{"next"}, drainNames(t, s))
		damagedNow(t, s, id)
		st := stats(t, s)
		require.EqualValues(t, 1, st.Dead)
		require.EqualValues(t, 1, st.Requeued)
		require.NoError(t, s.Flush())
		usageIsRight(t, s)
	}
}

// An index has no checksum, but follows from the tasks: whatever is wrong in it is made
// anew (P11).
func TestReindex(t *testing.T) {
	unique := keyed("unique", "")
	unique.Unique = "u"
	list := []outbox.Task{keyed("plain", ""), keyed("head", "k"), keyed("second", "k"), unique}
	for _, bucket := range []string{"due", "keys", "sole", "retries"} {
		for what, change := range map[string]func(k []byte) []byte{
			"lost": func([]byte) []byte { return nil },
			"bits": func(k []byte) []byte { k = slices.Clone(k); k[len(k)-1] ^= 1; k[0] ^= 1; return k },
			"cut":  func(k []byte) []byte { return k[:1] },
		} {
			t.Run(bucket+" "+what, func(t *testing.T) {
				t.Parallel()
				dir, _ := inDatabase(t, list...)
				db, err := bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, nil)
				require.NoError(t, err)
				require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
					b := tx.Bucket([]byte("goutbox")).Bucket([]byte(bucket))
					var all [][2][]byte
					require.NoError(t, b.ForEach(func(k, v []byte) error {
						all = append(all, [2][]byte{slices.Clone(k), slices.Clone(v)})
						return nil
					}))
					for _, kv := range all {
						require.NoError(t, b.Delete(kv[0]))
						if k := change(kv[0]); k != nil {
							require.NoError(t, b.Put(k, kv[1]))
						}
					}
					return nil
				}))
				require.NoError(t, db.Close())
				s := open(t, dir) // it is small
				audit(t, s)
				require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{unique}), outbox.ErrDuplicate)
				order := drainNames(t, s)
				require.ElementsMatch(t, []string{"plain", "head", "second", "unique"}, order)
				require.Less(t, slices.Index(order, "head"), slices.Index(order, "second"), "P4")
			})
		}
	}
	t.Run("while open", func(t *testing.T) {
		large := keyed("large", "")
		large.Payload, large.Delay = make([]byte, 2<<20), year
		dir, made := inDatabase(t, append(list, large)...)
		id := made["plain"].ID
		db, err := bbolt.Open(filepath.Join(dir, "outbox.db"), 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("goutbox")).Bucket([]byte("due"))
			c := b.Cursor()
			k, _ := c.First()
			for k != nil && !bytes.HasSuffix(k, id[:]) {
				k, _ = c.Next()
			}
			require.NotNil(t, k)
			k = slices.Clone(k)
			require.NoError(t, b.Put(append(k[:len(k)-16:len(k)-16], bytes.Repeat([]byte{7}, 16)...), nil))
			return b.Delete(k)
		}))
		require.NoError(t, db.Close())
		s := open(t, dir)
		require.Eventually(t, func() bool {
			done(t, s, claim(t, s, 10)...)
			require.NoError(t, s.Sync())
			return stats(t, s).Pending == 1
		}, 30*time.Second, time.Millisecond, "a claim that meets a place without a task has the index made anew")
	})
	t.Run("nothing to do", func(t *testing.T) {
		dir, _ := inDatabase(t, list...)
		var lines logged
		s := lines.open(t, dir)
		require.NoError(t, s.Reindex())
		require.Zero(t, lines.count("indexes"), lines.String())
	})
}

func TestDamaged_Many(t *testing.T) {
	var list []outbox.Task
	for i := range 300 {
		list = append(list, keyed(fmt.Sprintf("n%03d", i), []string{"", "k", "l"}[i%3]))
	}
	dir, made := inDatabase(t, list...)
	bad := 0
	for i := 0; i < len(list); i += 7 {
		id := made[list[i].Name].ID
		spoil(t, dir, "tasks", id[:], []func([]byte) []byte{flipLast, zeroed, noise}[i%3])
		bad++
	}
	s := open(t, dir, bolt.WithOverlay(20, 40))
	require.Len(t, drainNames(t, s), len(list)-bad)
	require.NoError(t, s.Flush())
	st := stats(t, s)
	require.EqualValues(t, bad, st.Damaged)
	require.EqualValues(t, bad, st.Dead)
	usageIsRight(t, s)
	require.NoError(t, s.Close())
	report, err := bolt.Verify(dir)
	require.NoError(t, err)
	require.True(t, report.OK(), report.String())
	require.EqualValues(t, bad, report.Dead)
}
