package bolt_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

var update = flag.Bool("update", false, "write the golden store of the present format version")

// golden is where writeGolden puts a store of the present version. Those of earlier
// versions stay as they are.
const golden = "testdata/v4"

const year = 365 * 24 * time.Hour

// writeGolden makes a store with something of everything in it, in the log and in
// the database, and keeps what a SIGKILL would leave of it.
func writeGolden(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithSegmentBytes(64<<10))
	fill := func(prefix string) {
		create(t, s, outbox.Task{Event: outbox.Event{Name: prefix + "delivered"}})
		done(t, s, claim(t, s, 1)...)
		create(t, s, outbox.Task{Event: outbox.Event{Name: prefix + "dead", Payload: []byte("payload")}})
		got := claim(t, s, 1)[0]
		require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: got.ID, Token: got.Token, Verdict: outbox.Bury,
			Reason: outbox.ReasonPermanent, Failure: outbox.Failure{At: time.Unix(1, 0), Attempt: 1, Error: "refused"}}}))
		create(t, s, outbox.Task{Event: outbox.Event{Name: prefix + "retried"}})
		got = claim(t, s, 1)[0]
		require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: got.ID, Token: got.Token, Verdict: outbox.Retry, Delay: year,
			Failure: outbox.Failure{At: time.Unix(2, 0), Attempt: 1, Error: "busy"}}}))
		create(t, s,
			outbox.Task{Event: outbox.Event{Name: prefix + "keyed", Key: "k", ContentType: "application/json"}, Delay: year, TTL: 2 * year},
			outbox.Task{Event: outbox.Event{Name: prefix + "unique", ContentType: "text/plain", Headers: map[string]string{"h": "v"}}, Unique: prefix + "u", Delay: year, Priority: outbox.High},
			outbox.Task{Event: outbox.Event{Name: prefix + "replaced"}, LatestOnly: prefix + "l", Delay: year},
			outbox.Task{Event: outbox.Event{Name: prefix + "latest"}, LatestOnly: prefix + "l", Delay: year})
		require.NoError(t, s.Sync())
	}
	fill("database ")
	for range 5 { // which share a key of the due bucket
		create(t, s, outbox.Task{Event: outbox.Event{Name: "database many"}, Delay: year})
	}
	require.NoError(t, s.Flush())
	fill("log ")
	require.NoError(t, os.RemoveAll(golden))
	s.Freeze(func() { copyDir(t, dir, golden) })
	shrink(t, filepath.Join(golden, "outbox.db"))
	spares, err := filepath.Glob(filepath.Join(golden, "wal", "*.spare"))
	require.NoError(t, err)
	for _, file := range append(spares, filepath.Join(golden, "LOCK")) {
		require.NoError(t, os.Remove(file))
	}
}

// shrink takes the free pages out of a database file.
func shrink(t *testing.T, path string) {
	from, to := openDB(t, path, nil), openDB(t, path+".small", nil)
	to.AllocSize = 0
	require.NoError(t, bbolt.Compact(to, from, 0))
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
	require.NoError(t, os.Rename(path+".small", path))
}

// A store of any format version must open for ever, and say what it said.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for _, store := range []string{"testdata/v1", "testdata/v2", "testdata/v3", "testdata/v3-task3", golden} {
		t.Run(store, func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, store, dir)
			s := open(t, dir)
			many := 0
			if store == golden {
				many = 5
			}
			testGolden(t, s, many)
			usageIsRight(t, s)
			if store >= "testdata/v3" {
				require.EqualValues(t, 2, stats(t, s).PendingByPriority.High)
			}
			require.NoError(t, s.Close())
			s = open(t, dir) // which is of the present version by now
			usageIsRight(t, s)
			require.NotZero(t, stats(t, s).PendingBytes)
			require.NotZero(t, stats(t, s).DeadBytes)
		})
	}
}

// testGolden checks what a golden store says. Since format 4 it has many of one name.
func testGolden(t *testing.T, s *bolt.Store, many int) {
	t.Helper()
	require.Equal(t, slices.Concat(
		[]string{"database dead", "database retried", "database keyed", "database unique", "database latest"},
		slices.Repeat([]string{"database many"}, many),
		[]string{"log dead", "log retried", "log keyed", "log unique", "log latest"},
	), names(t, s))
	st := stats(t, s)
	require.EqualValues(t, 14+many, st.Accepted)
	require.EqualValues(t, 2, st.Delivered)
	require.EqualValues(t, 2, st.Dead)
	require.EqualValues(t, 2, st.DroppedBy.Coalesced)
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}}) {
		require.NoError(t, err)
		require.Equal(t, "payload", string(task.Payload))
		require.Equal(t, outbox.ReasonPermanent, task.Reason)
		require.Equal(t, []outbox.Failure{{At: time.Unix(1, 0).UTC(), Attempt: 1, Error: "refused"}}, task.Failures)
	}
	for task, err := range s.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Waiting}}) {
		require.NoError(t, err)
		require.WithinRange(t, task.DueAt, task.CreatedAt.Add(year-time.Hour), task.CreatedAt.Add(year+time.Hour))
		require.Equal(t, task.Key == "k", !task.ExpiresAt.IsZero())
		if task.ContentType != "" { // the first golden stores have none
			require.Equal(t, map[bool]string{true: "application/json", false: "text/plain"}[task.Key == "k"], task.ContentType)
		}
	}
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "again"}, Unique: "database u"}}), outbox.ErrDuplicate)
	require.ErrorIs(t, s.Create(t.Context(), []outbox.Task{{Event: outbox.Event{Name: "again"}, Unique: "log u"}}), outbox.ErrDuplicate)
	create(t, s, outbox.Task{Event: outbox.Event{Name: "new"}})
	require.Equal(t, "new", claim(t, s, 100)[0].Name)
}
