package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// A checkpoint of several transactions that is cut short leaves a database which has
// the effect of records behind its log position. Replaying them must change nothing,
// neither tasks nor ledger, whatever the record says (R29, R30, P5).
//
// For each kind of record: what a crash leaves before a checkpoint is opened, and
// what is left when the checkpoint has written all but the log position. Both must
// say the same, now and after one more restart.
func TestReplayTwice(t *testing.T) {
	for what, do := range replayed {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tasks in the database %v", what, early), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				s := open(t, dir, bolt.WithSegmentBytes(64<<10))
				r := prepareReplay(t, s)
				if early {
					require.NoError(t, s.Flush())
				}
				do(t, s, r)
				require.NoError(t, s.Sync())
				before, cut := t.TempDir(), t.TempDir()
				s.Freeze(func() { copyDir(t, dir, before) })
				require.NoError(t, s.Flush())
				s.Freeze(func() {
					copyDir(t, before, cut)
					data, err := os.ReadFile(filepath.Join(dir, "outbox.db"))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(cut, "outbox.db"), data, 0o600))
				})
				forgetCheckpoint(t, filepath.Join(before, "outbox.db"), filepath.Join(cut, "outbox.db"))
				want, got := open(t, before), open(t, cut)
				for range 2 {
					audit(t, want)
					audit(t, got)
					require.Equal(t, contents(t, want), contents(t, got))
					require.Equal(t, takenUntil(t, want), takenUntil(t, got))
					require.NoError(t, want.Close())
					require.NoError(t, got.Close())
					want, got = open(t, before), open(t, cut)
				}
				for _, s := range []*bolt.Store{want, got} {
					for list := claim(t, s, 100); len(list) > 0; list = claim(t, s, 100) {
						done(t, s, list...)
					}
				}
				require.Equal(t, contents(t, want), contents(t, got), "when all is delivered")
			})
		}
	}
}

// forgetCheckpoint gives a database the log position and ledger of another. What it
// counts of its own content stays: every transaction brings that up to date.
func forgetCheckpoint(t *testing.T, from, to string) {
	t.Helper()
	values := map[string][]byte{}
	db := openDB(t, from, &bbolt.Options{ReadOnly: true})
	meta := func(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("goutbox")).Bucket([]byte("meta")) }
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		return meta(tx).ForEach(func(k, v []byte) error {
			values[string(k)] = append([]byte(nil), v...)
			return nil
		})
	}))
	require.NoError(t, db.Close())
	db = openDB(t, to, nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		delete(values, "usage")
		for k, v := range values {
			require.NoError(t, meta(tx).Put([]byte(k), v))
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

// contents is all that a store says of itself.
func contents(t *testing.T, s *bolt.Store) []string {
	t.Helper()
	var all []string
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		task.DueAt = task.DueAt.Truncate(24 * time.Hour)
		all = append(all, fmt.Sprintf("%+v", task))
	}
	return append(all, fmt.Sprintf("%+v", unsynced(stats(t, s))), s.Gaps())
}

// takenUntil says until when the Unique key of "spend" is taken after its delivery.
func takenUntil(t *testing.T, s *bolt.Store) int64 {
	t.Helper()
	until, err := s.SpentUntil("s")
	require.NoError(t, err)
	return until
}

// prepareReplay makes a task for each of the records below, by name.
func prepareReplay(t *testing.T, s *bolt.Store) map[string]outbox.Task {
	t.Helper()
	list := []outbox.Task{
		named("done"), named("retry"), named("bury"), named("dead"), named("dead too"), named("flying"), named("tried"),
		named("delete"), named("head"), named("behind"), named("replace"), named("expire"),
		named("holder"), named("parked"), named("spend"),
	}
	byName := map[string]outbox.Task{}
	for i := range list {
		switch t := &list[i]; t.Name {
		case "delete":
			t.Delay, t.Unique = year, "delete"
		case "head":
			t.Delay, t.Key = year, "k"
		case "behind":
			t.Key = "k"
		case "replace":
			t.Delay, t.LatestOnly = year, "l"
		case "expire":
			t.Delay, t.TTL = year, 1
		case "holder":
			t.Key, t.KeyPolicy, t.Lease = "p", outbox.ParkWholeKey, time.Hour
		case "parked":
			t.Key = "p"
		case "spend":
			t.Unique, t.UniqueFor, t.Lease = "s", year, time.Hour
		case "flying":
			t.LatestOnly, t.Lease = "f", time.Hour
		default:
			t.Lease = time.Hour
		}
	}
	for _, task := range create(t, s, list...) {
		byName[task.Name] = task
	}
	settle(t, s, outbox.Bury, 0, byName["dead"], byName["dead too"])
	settle(t, s, outbox.Retry, year, byName["tried"])
	require.NoError(t, s.Sync())
	return byName
}

func settle(t *testing.T, s *bolt.Store, v outbox.Verdict, delay time.Duration, list ...outbox.Task) {
	t.Helper()
	var all []outbox.Outcome
	for _, task := range list {
		o := outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: v, Delay: delay}
		if v == outbox.Retry || v == outbox.Bury {
			o.Failure = outbox.Failure{At: time.Unix(9, 0), Attempt: 1, Error: "busy"}
		}
		if v == outbox.Bury {
			o.Reason = outbox.ReasonPermanent
		}
		all = append(all, o)
	}
	require.NoError(t, s.Settle(t.Context(), all))
}

func latestOf(name, key string) outbox.Task {
	task := named(name)
	task.LatestOnly, task.Delay = key, year
	return task
}

// replayed has every kind of record, in every form that it takes.
var replayed = map[string]func(t *testing.T, s *bolt.Store, r map[string]outbox.Task){
	"create": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		keyed, unique := named("keyed"), named("unique")
		keyed.Key, unique.Unique, unique.TTL = "k", "u", year
		create(t, s, named("plain"), keyed, unique)
	},
	"create, tried elsewhere": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		task := named("moved")
		task.Attempts, task.Failures = 2, []outbox.Failure{{At: time.Unix(1, 0), Attempt: 2, Error: "no"}}
		create(t, s, task)
	},
	"create, replaces": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		create(t, s, latestOf("newer", "l"), latestOf("newest", "l"))
	},
	"create, outdates": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		create(t, s, latestOf("newer", "f"))
	},
	"done": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) { settle(t, s, outbox.Done, 0, r["done"]) },
	"retry": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Retry, year, r["retry"])
	},
	"retry, twice": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Retry, 0, r["retry"])
		require.NoError(t, s.Sync())
		for _, task := range claim(t, s, 100) {
			if task.Name == "retry" {
				settle(t, s, outbox.Retry, year, task)
			}
		}
	},
	"bury": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) { settle(t, s, outbox.Bury, 0, r["bury"]) },
	"drop, deleted": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		n, err := s.Delete(t.Context(), r["delete"].ID, r["head"].ID)
		require.NoError(t, err)
		require.Equal(t, 2, n)
	},
	"drop, dead": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		n, err := s.Delete(t.Context(), r["dead"].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	},
	"drop, expired": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		claim(t, s, 100)
		require.EqualValues(t, 1, stats(t, s).DroppedBy.Expired)
	},
	"gaps, in flight": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		require.Len(t, claimGaps(t, s, 100), 1)
	},
	"gaps, delivered and more untold": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		done(t, s, claimGaps(t, s, 100)...)
		task := named("expires too")
		task.TTL = 1
		create(t, s, task)
		claim(t, s, 100)
		require.Equal(t, [2]uint64{0, 1}, s.Untold())
	},
	"gaps, baseline": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		done(t, s, claimGaps(t, s, 100)...)
		require.NoError(t, s.Lighten())
	},
	"gaps, requeued": func(t *testing.T, s *bolt.Store, _ map[string]outbox.Task) {
		for _, task := range claimGaps(t, s, 100) {
			if task.Name == outbox.GapName {
				bury(t, s, task)
				_, err := s.Requeue(t.Context(), task.ID)
				require.NoError(t, err)
			}
		}
	},
	"drop, coalesced": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		create(t, s, latestOf("newer", "f"))
		settle(t, s, outbox.Retry, 0, r["flying"])
		require.EqualValues(t, 1, stats(t, s).DroppedBy.Coalesced)
	},
	"requeue": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		n, err := s.Requeue(t.Context(), r["dead"].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	},
	"requeue, buried again": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		_, err := s.Requeue(t.Context(), r["dead"].ID, r["dead too"].ID)
		require.NoError(t, err)
		for _, task := range claim(t, s, 100) {
			if task.Name == "dead" {
				settle(t, s, outbox.Bury, 0, task)
			}
		}
	},
	"park": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Bury, 0, r["holder"])
		claim(t, s, 100)
		require.EqualValues(t, 4, stats(t, s).Dead)
	},
	"park, requeue the first": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Bury, 0, r["holder"])
		claim(t, s, 100)
		n, err := s.Requeue(t.Context(), r["holder"].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	},
	"park, requeue the second": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Bury, 0, r["holder"])
		claim(t, s, 100)
		_, err := s.Requeue(t.Context(), r["parked"].ID)
		require.NoError(t, err)
		claim(t, s, 100)
		require.EqualValues(t, 4, stats(t, s).Dead)
	},
	"park, delete the first": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Bury, 0, r["holder"])
		n, err := s.Delete(t.Context(), r["holder"].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	},
	"spend": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Done, 0, r["spend"])
		require.NoError(t, s.Sync())
		require.NotZero(t, takenUntil(t, s))
	},
	"baseline": func(t *testing.T, s *bolt.Store, r map[string]outbox.Task) {
		settle(t, s, outbox.Done, 0, r["done"])
		settle(t, s, outbox.Bury, 0, r["bury"])
		require.NoError(t, s.Lighten())
		n, err := s.Requeue(t.Context(), r["bury"].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	},
}

// No kind of record may be forgotten above.
func TestReplayTwice_Complete(t *testing.T) {
	written := map[string]bool{"create": true, "done": true, "retry": true, "bury": true, "drop": true, "requeue": true, "base": true, "gaps": true, "park": true, "spend": true}
	for what := range replayed {
		for kind := range written {
			if len(what) >= len(kind) && what[:len(kind)] == kind {
				delete(written, kind)
			}
		}
	}
	require.Empty(t, written)
	require.Equal(t, 11, bolt.OpKinds, "a new kind of record needs a row above; for damage see damaged_test.go")
}
