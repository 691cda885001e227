package bolt_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// latestStore is a store of which nothing becomes durable by itself, and whatever ends
// it: a clean close, a crash, or nothing at all.
type latestStore struct {
	*testing.T
	*bolt.Store
	h     *harness
	stale outbox.Task // that is in flight
}

// comeBack gives back what is in flight, which a restart does by itself.
func (s *latestStore) comeBack(way string) {
	s.Helper()
	if way != "reopen" && !strings.HasPrefix(way, "crash") {
		s.settle(s.stale, outbox.Outcome{Verdict: outbox.Release})
	}
}

func eachLatest(t *testing.T, f func(s *latestStore, way string)) {
	for _, way := range []string{"goes on", "checkpoint", "reindex", "reopen", "crash", "crash of a large store"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(bolt.WithAckSync(1000 * time.Hour))
				s := &latestStore{T: t, Store: h.open(t, t.TempDir()).(*bolt.Store), h: h}
				defer func() { require.NoError(t, s.Close()) }() // nobody is left in the bubble
				if way == "crash of a large store" {             // whose indexes no start compares with the tasks
					require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
						b, err := tx.CreateBucket([]byte("mine"))
						require.NoError(t, err)
						return b.Put([]byte("large"), make([]byte, 2<<20))
					}))
				}
				f(s, way)
				audit(t, s.Store)
				require.NoError(t, s.Flush())
				audit(t, s.Store)
			})
		})
	}
}

// then lets come to the store what is in the way.
func (s *latestStore) then(way string) {
	s.Helper()
	switch way {
	case "checkpoint":
		require.NoError(s, s.Flush())
	case "reindex":
		require.NoError(s, s.Flush())
		require.NoError(s, s.Reindex())
	case "reopen":
		s.Store = s.h.reopen(s.T, s.Store).(*bolt.Store)
	case "crash", "crash of a large store":
		require.NoError(s, s.Sync())
		s.Store = s.h.crash(s.T, s.Store).(*bolt.Store)
	}
	if way != "goes on" { // an audit makes durable what was settled
		audit(s.T, s.Store)
	}
}

// ready is a LatestOnly task that is due at once.
func ready(name, key string) outbox.Task {
	t := named(name)
	t.Key, t.LatestOnly = key, "l"
	return t
}

// claims claims all there is.
func (s *latestStore) claims(want ...string) []outbox.Task {
	s.Helper()
	var all []outbox.Task
	var names []string
	for got := claim(s.T, s.Store, 10); len(got) > 0; got = claim(s.T, s.Store, 10) {
		for _, task := range got {
			names = append(names, task.Name)
		}
		all = append(all, got...)
	}
	require.ElementsMatch(s, want, names)
	return all
}

func (s *latestStore) coalesced(want int) {
	s.Helper()
	require.EqualValues(s, want, stats(s.T, s.Store).DroppedBy.Coalesced)
}

func (s *latestStore) settle(task outbox.Task, o outbox.Outcome) {
	s.Helper()
	o.ID, o.Token = task.ID, task.Token
	require.NoError(s, s.Settle(s.Context(), []outbox.Outcome{o}))
}

func (s *latestStore) inTx(list ...outbox.Task) {
	s.Helper()
	require.NoError(s, inTx(s.T, s.Store, nil, list...))
}

// A task that is to be retried in a year, and is replaced before that is durable, does
// not stand in front of its ordering key for a year (P4).
func TestLatest_ReplacedBeforeItsRetryIsDurable(t *testing.T) {
	retry := outbox.Outcome{Verdict: outbox.Retry, Delay: 8760 * time.Hour, Failure: outbox.Failure{Attempt: 1, Error: "busy"}}
	for _, where := range []string{"log", "database"} {
		for _, by := range []string{"Create", "Update"} {
			t.Run(where+", "+by, func(t *testing.T) {
				eachLatest(t, func(s *latestStore, way string) {
					behind := named("behind")
					behind.Key = "k"
					create(s.T, s.Store, ready("old", "k"), behind)
					if where == "database" {
						require.NoError(s, s.Flush())
					}
					s.settle(s.claims("old")[0], retry)
					if by == "Create" {
						create(s.T, s.Store, ready("new", ""))
					} else {
						s.inTx(ready("new", ""))
					}
					s.then(way)
					s.claims("behind", "new")
					s.coalesced(1)
				})
			})
		}
	}
}

// A dead letter that was requeued holds its LatestOnly key, though one with a higher ID
// is there still: that was replaced by a third, which is gone. Marks tell, not IDs.
func TestLatest_RequeuedBesideAStaleOne(t *testing.T) {
	bury := outbox.Outcome{Verdict: outbox.Bury, Reason: outbox.ReasonPermanent, Failure: outbox.Failure{Attempt: 1, Error: "no"}}
	// life lets a third task replace the stale one and be delivered, after which the dead
	// letter is requeued. At last that is claimed, or one that has replaced it.
	life := func(last string, where, by string, stale outbox.Task, before func(s *latestStore), after func(s *latestStore, way string)) func(t *testing.T) {
		return func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				create(s.T, s.Store, ready("dead", ""))
				dead := s.claims("dead")[0]
				s.settle(dead, bury)
				before(s)
				create(s.T, s.Store, stale)
				if where == "database" {
					require.NoError(s, s.Flush())
				}
				if stale.Key == "" {
					s.stale = s.claims("stale")[0]
				}
				if by == "Create" {
					create(s.T, s.Store, ready("third", ""))
				} else {
					s.inTx(ready("third", ""))
				}
				done(s.T, s.Store, s.claims("third")...)
				n, err := s.Requeue(s.Context(), dead.ID)
				require.NoError(s, err)
				require.Equal(s, 1, n)
				s.then(way)
				if last == "newest" {
					create(s.T, s.Store, ready("newest", ""))
					require.NotContains(s, names(s.T, s.Store), "dead", "it is replaced when the newest is accepted")
				}
				after(s, way)
				s.claims(last)
				s.coalesced(map[string]int{"dead": 1, "newest": 2}[last])
			})
		}
	}
	for _, last := range []string{"dead", "newest"} {
		var front outbox.Task
		t.Run(last+", stale in the database behind another", life(last, "database", "Update", ready("stale", "k"), func(s *latestStore) {
			front = named("front")
			front.Key, front.Delay = "k", 8760*time.Hour
			front = create(s.T, s.Store, front)[0]
		}, func(s *latestStore, _ string) {
			_, err := s.Delete(s.Context(), front.ID)
			require.NoError(s, err)
		}))
		for _, by := range []string{"Create", "Update"} {
			for _, where := range []string{"log", "database"} {
				t.Run(last+", stale in flight in "+where+", by "+by, life(last, where, by, ready("stale", ""), func(*latestStore) {}, (*latestStore).comeBack))
			}
		}
	}
}

// Stores of before may have a stale task as the holder of a LatestOnly key in the
// database. It outdates nobody.
func TestLatest_StaleHolder(t *testing.T) {
	eachLatest(t, func(s *latestStore, way string) {
		create(s.T, s.Store, ready("dead", ""))
		dead := s.claims("dead")[0]
		s.settle(dead, outbox.Outcome{Verdict: outbox.Bury, Reason: outbox.ReasonPermanent})
		front := named("front")
		front.Key, front.Delay = "k", 8760*time.Hour
		list := create(s.T, s.Store, front, ready("stale", "k"))
		require.NoError(s, s.Flush())
		s.inTx(ready("third", ""))
		done(s.T, s.Store, s.claims("third")...)
		_, err := s.Requeue(s.Context(), dead.ID)
		require.NoError(s, err)
		require.NoError(s, s.Flush())
		require.NoError(s, s.Update(s.Context(), func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("goutbox")).Bucket([]byte("sole")).Put([]byte("ll"), list[1].ID[:])
		}))
		s.then(way)
		if way == "reindex" || way == "reopen" || way == "crash" { // that mends it
			create(s.T, s.Store, ready("newest", ""))
			require.NotContains(s, names(s.T, s.Store), "dead")
			return
		}
		s.claims("dead")
		s.coalesced(0)
	})
}

// A checkpoint does not give a LatestOnly key back to a task in flight that a
// transaction has replaced: the next one would replace it, and not the one that waits.
func TestLatest_CheckpointOfAStaleOneInFlight(t *testing.T) {
	eachLatest(t, func(s *latestStore, way string) {
		create(s.T, s.Store, ready("old", ""))
		s.claims("old")
		s.inTx(ready("new", ""))
		require.NoError(s, s.Flush())
		s.then(way)
		create(s.T, s.Store, ready("newest", ""))
		require.NotContains(s, names(s.T, s.Store), "new")
		s.claims("newest")
	})
}

// What a transaction has replaced while a checkpoint waited for it to end is written as
// replaced: it neither takes its LatestOnly key back, nor comes back when the new one is
// gone.
func TestLatest_TransactionAmidACheckpoint(t *testing.T) {
	meanwhile := func(s *latestStore, old outbox.Task) {
		synctest.Wait() // or the background may want to write, and the checkpoint would wait for it
		flushed := make(chan error, 1)
		require.NoError(s, s.Update(s.Context(), func(tx *bbolt.Tx) error {
			go func() { flushed <- s.Flush() }()
			for !s.MidFlush(old.ID) {
				runtime.Gosched()
			}
			return s.Create(bolt.WithTx(s.Context(), tx), []outbox.Task{ready("new", "")})
		}))
		require.NoError(s, <-flushed)
	}
	for _, where := range []string{"log", "database"} {
		t.Run("waiting, "+where, func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				old := create(s.T, s.Store, ready("old", ""))[0]
				if where == "database" {
					require.NoError(s, s.Flush())
					s.settle(s.claims("old")[0], outbox.Outcome{Verdict: outbox.Retry, Failure: outbox.Failure{Attempt: 1, Error: "busy"}})
					require.NoError(s, s.Sync())
				}
				meanwhile(s, old)
				s.then(way)
				create(s.T, s.Store, ready("newest", ""))
				require.Equal(s, []string{"newest"}, names(s.T, s.Store))
				s.claims("newest")
				s.coalesced(2)
			})
		})
		t.Run("in flight, "+where, func(t *testing.T) {
			eachLatest(t, func(s *latestStore, way string) {
				create(s.T, s.Store, ready("old", ""))
				if where == "database" {
					require.NoError(s, s.Flush())
					s.settle(s.claims("old")[0], outbox.Outcome{Verdict: outbox.Retry, Failure: outbox.Failure{Attempt: 1, Error: "busy"}})
				}
				s.stale = s.claims("old")[0]
				meanwhile(s, s.stale)
				done(s.T, s.Store, s.claims("new")...)
				require.NoError(s, s.Flush())
				s.then(way)
				s.comeBack(way)
				s.claims()
				s.coalesced(1)
			})
		})
	}
}

// The same, if the checkpoint goes on before the store is told of the commit.
func TestLatest_CheckpointBeforeOnCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		db, err := bbolt.Open(filepath.Join(dir, "app.db"), 0o600, nil)
		require.NoError(t, err)
		s, err := bolt.Attach(db, filepath.Join(dir, "outbox"), quiet)
		require.NoError(t, err)
		defer func() { require.NoError(t, errors.Join(s.Close(), db.Close())) }()
		old := create(t, s, ready("old", ""))[0]
		flushed := make(chan error, 1)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			go func() { flushed <- s.Flush() }()
			for !s.MidFlush(old.ID) {
				runtime.Gosched()
			}
			tx.OnCommit(func() { require.NoError(t, <-flushed) })
			return s.Create(bolt.WithTx(t.Context(), tx), []outbox.Task{ready("new", "")})
		}))
		create(t, s, ready("newest", ""))
		require.Equal(t, []string{"newest"}, names(t, s))
		audit(t, s)
	})
}
