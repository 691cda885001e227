package bolt_test

import (
	"runtime"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// allocated is how many bytes and objects the process has put on the heap so far.
func allocated() (bytes, objects uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m) // runtime/metrics leaves out what processors have not handed in yet
	return m.TotalAlloc, m.Mallocs
}

// openCost opens a store, says what that has allocated, and closes it.
func openCost(t *testing.T, dir string, pending int) (bytes, objects uint64) {
	t.Helper()
	b, o := allocated()
	s, err := bolt.Open(dir, quiet)
	require.NoError(t, err)
	bytes, objects = allocated()
	require.Zero(t, s.InMemory(), "opening reads nothing that waits")
	require.EqualValues(t, pending, stats(t, s).Pending)
	require.NoError(t, s.Close())
	return bytes - b, objects - o
}

// crowded makes a store where so many tasks wait in the database, of all kinds.
func crowded(t *testing.T, n int) (*bolt.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	for i := 0; i < n; i += 1000 {
		list := tasks(i, 1000)
		for j := range list {
			switch j % 4 {
			case 1:
				list[j].Key = list[j].Name
			case 2:
				list[j].Unique = list[j].Name
			case 3:
				list[j].LatestOnly = list[j].Name
			}
		}
		create(t, s, list...)
	}
	require.NoError(t, s.Flush())
	return s, dir
}

const fewTasks = 1_000

var manyTasks = func() int {
	if underRace {
		return 10_000
	}
	return 100_000
}()

// Opening looks at nothing that waits: a scan would allocate at least something for
// each task, or touch its page (see opencost_linux_test.go).
func TestOpen_CostsTheSameHoweverManyWait(t *testing.T) {
	var bytes, objects [2]uint64
	for i, n := range [...]int{fewTasks, manyTasks} {
		s, dir := crowded(t, n)
		require.NoError(t, s.Close())
		bytes[i], objects[i] = openCost(t, dir, n)
		t.Logf("%d waiting: opening has allocated %d bytes, %d objects", n, bytes[i], objects[i])
	}
	require.Less(t, bytes[1], bytes[0]+1<<20, "bytes")
	require.Less(t, objects[1], objects[0]+2000, "objects")
}

// After a crash opening costs what the log holds, however many wait.
func TestOpen_AfterACrashCostsWhatTheLogHolds(t *testing.T) {
	var bytes [2]uint64
	for i, n := range [...]int{fewTasks, manyTasks} {
		s, dir := crowded(t, n)
		crashed := t.TempDir()
		s.Freeze(func() { // or the background would take out of the log what was delivered
			for range 20 {
				list := tasks(0, 1000)
				for j := range list {
					list[j].Lease = outbox.MaxLease
				}
				create(t, s, list...)
				done(t, s, list...)
			}
			require.NoError(t, s.Sync())
			copyDir(t, dir, crashed)
		})
		bytes[i], _ = openCost(t, crashed, n)
		t.Logf("%d waiting: opening after a crash has allocated %d KiB, for a log of some 7 MiB", n, bytes[i]>>10)
	}
	require.Less(t, bytes[1], bytes[0]+bytes[0]/4+1<<20)
}
