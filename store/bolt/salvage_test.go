package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// filesIn returns every file of a folder.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || info.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(b)
		return err
	}))
	return files
}

// wreck is a store that was left by a crash, with something of everything in the
// database, and more in the log.
type wreck struct {
	dir   string
	tasks map[outbox.ID]outbox.Task // that wait or are dead
	file  []byte
	size  int // of a page
	pages int
}

func newWreck(t *testing.T) *wreck {
	t.Helper()
	w := &wreck{dir: t.TempDir(), tasks: map[outbox.ID]outbox.Task{}}
	origin := t.TempDir()
	s, err := bolt.Open(origin, quiet, bolt.WithSegmentBytes(64<<10))
	require.NoError(t, err)
	defer s.Close()
	create(t, s, tasks(0, 8)...)
	for _, task := range claim(t, s, 8) {
		settle(t, s, outbox.Retry, year, task)
	}
	mixed(t, s)
	require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("application"))
		require.NoError(t, err)
		require.NoError(t, b.SetSequence(42))
		b, err = b.CreateBucketIfNotExists([]byte("nested"))
		require.NoError(t, err)
		for i := range 100 {
			require.NoError(t, b.Put(binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat([]byte{byte(i)}, 100)))
		}
		return nil
	}))
	require.NoError(t, s.Sync())
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		w.tasks[task.ID] = task
	}
	s.Freeze(func() { copyDir(t, origin, w.dir) })
	w.file, err = os.ReadFile(filepath.Join(w.dir, "outbox.db"))
	require.NoError(t, err)
	w.size, w.pages = boltPages(t, w.file)
	return w
}

// copyOf puts the wreck into a folder of its own, with another database.
func (w *wreck) copyOf(t *testing.T, file []byte) string {
	t.Helper()
	dir := t.TempDir()
	copyDir(t, w.dir, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), file, 0o600))
	return dir
}

// left returns what a store has, and checks that it is right.
func (w *wreck) left(t *testing.T, dir, what string, got bolt.Salvaged) (intact, damaged map[outbox.ID]bool) {
	t.Helper()
	report, err := bolt.Verify(dir, quiet)
	require.NoError(t, err, what)
	require.True(t, report.OK(), "%s: %s", what, report.String())
	s, err := bolt.Open(dir, quiet, bolt.WithSegmentBytes(64<<10))
	require.NoError(t, err, what)
	intact, damaged = map[outbox.ID]bool{}, map[outbox.ID]bool{}
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err, what)
		if task.Reason == outbox.ReasonDamaged {
			damaged[task.ID] = true
			continue
		}
		was, ok := w.tasks[task.ID]
		require.True(t, ok, "%s: %s is risen from the dead", what, task.Name)
		require.Equal(t, was.Payload, task.Payload, what)
		require.Equal(t, was.Name, task.Name, what)
		require.Equal(t, was.State, task.State, what)
		if got.Schedules == 0 && got.Pages == 0 && got.LostWaiting == 0 {
			require.Equal(t, was.Attempts, task.Attempts, "%s: %s", what, got.String())
			require.Equal(t, was.Failures, task.Failures, what)
		}
		intact[task.ID] = true
	}
	audit(t, s)
	stats(t, s)
	require.NoError(t, s.Flush(), what)
	audit(t, s)
	usageIsRight(t, s)
	create(t, s, outbox.Task{Event: outbox.Event{Name: "new"}})
	require.NoError(t, s.Close(), what)
	return intact, damaged
}

// check salvages and holds what is left and what is said to be lost against what there
// was: together they are everything.
func (w *wreck) check(t *testing.T, dir, what string) bolt.Salvaged {
	t.Helper()
	before := filesIn(t, dir)
	found, err := bolt.Verify(dir, quiet)
	require.NoError(t, err, what)
	got, err := bolt.Salvage(dir, quiet)
	require.NoError(t, err, what)
	if found.OK() {
		require.False(t, got.Changed(), what)
		require.Equal(t, before, filesIn(t, dir), "%s: nothing is wrong, so nothing changes", what)
	} else {
		require.True(t, got.Changed(), "%s: %s", what, got.String())
	}
	after := filesIn(t, dir)
	for _, name := range got.Aside {
		original, _, _ := strings.Cut(name, ".corrupt-")
		require.Equal(t, before[original], after[name], "%s: %s is kept as it was", what, name)
	}
	intact, damaged := w.left(t, dir, what, got)
	for _, id := range got.Lost {
		require.False(t, intact[id] || damaged[id], "%s: %s is not lost", what, id)
		require.Contains(t, w.tasks, id, what)
	}
	require.EqualValues(t, len(damaged), got.Damaged, "%s: %s", what, got.String())
	missing := len(w.tasks) - len(intact)
	for id := range damaged {
		if _, ok := w.tasks[id]; ok { // its ID is not damaged, too
			missing--
		}
	}
	require.GreaterOrEqual(t, missing, len(got.Lost), what)
	if missing > 0 && got.LostWaiting >= 0 && len(got.LostRecords) == 0 {
		require.GreaterOrEqual(t, got.LostWaiting+got.LostDead+int64(len(damaged)), int64(missing), "%s: %s", what, got.String())
	}
	if missing > 0 && got.LostWaiting < 0 {
		require.Contains(t, got.String(), "unknown number")
	}
	return got
}

func TestSalvage_Healthy(t *testing.T) {
	w := newWreck(t)
	dir := w.copyOf(t, w.file)
	got := w.check(t, dir, "as it was")
	require.True(t, got.Found.OK())
	require.EqualValues(t, len(w.tasks), got.Waiting+got.Dead)
}

// One value damaged, one page zeroed, a branch gone, both meta pages gone, the end cut
// off: what is left is exactly what was intact.
func TestSalvage_Database(t *testing.T) {
	w := newWreck(t)
	changed := func(f func(b []byte)) []byte {
		b := bytes.Clone(w.file)
		f(b)
		return b
	}
	page := func(b []byte, n int) []byte { return b[n*w.size : (n+1)*w.size] }
	t.Run("branches", func(t *testing.T) {
		n := 0
		for i := 2; i < w.pages; i++ {
			if binary.NativeEndian.Uint16(page(w.file, i)[8:]) != 1 || binary.NativeEndian.Uint64(page(w.file, i)) != uint64(i) {
				continue
			}
			n++
			got := w.check(t, w.copyOf(t, changed(func(b []byte) { clear(page(b, i)) })), fmt.Sprintf("branch page %d", i))
			if !got.Found.OK() {
				require.Zero(t, got.LostWaiting+got.LostDead, "what a branch leads to is intact: %s", got.String())
				require.Empty(t, got.Lost)
			}
		}
		require.NotZero(t, n)
	})
	t.Run("both meta pages", func(t *testing.T) {
		dir := w.copyOf(t, changed(func(b []byte) { clear(b[:2*w.size]) }))
		got := w.check(t, dir, "metas")
		require.EqualValues(t, -1, got.LostWaiting)
		require.NotZero(t, got.Waiting, "the log has some")
	})
	t.Run("one meta page", func(t *testing.T) {
		for n := range 2 {
			dir := w.copyOf(t, changed(func(b []byte) { clear(page(b, n)) }))
			got := w.check(t, dir, "a meta page")
			require.NotZero(t, got.Waiting)
		}
	})
	t.Run("empty", func(t *testing.T) {
		got := w.check(t, w.copyOf(t, nil), "empty")
		require.NotZero(t, got.Waiting, "the log has some")
	})
	t.Run("missing", func(t *testing.T) {
		dir := w.copyOf(t, nil)
		require.NoError(t, os.Remove(filepath.Join(dir, "outbox.db")))
		before := filesIn(t, dir)
		_, err := bolt.Salvage(dir, quiet)
		require.ErrorIs(t, err, outbox.ErrMismatch)
		require.Equal(t, before, filesIn(t, dir))
	})
	t.Run("application", func(t *testing.T) {
		var victim outbox.ID
		for id, task := range w.tasks {
			if task.State == outbox.Waiting && bytes.Contains(w.file, id[:]) {
				victim = id
			}
		}
		dir := w.copyOf(t, w.file)
		spoil(t, dir, "tasks", victim[:], noise)
		got := w.check(t, dir, "a value")
		require.EqualValues(t, 1, got.Damaged)
		require.Empty(t, got.Lost)
		db := openDB(t, filepath.Join(dir, "outbox.db"), nil)
		require.NoError(t, db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("application"))
			require.NotNil(t, b)
			require.EqualValues(t, 42, b.Sequence())
			n := 0
			require.NoError(t, b.Bucket([]byte("nested")).ForEach(func(k, v []byte) error {
				require.Equal(t, bytes.Repeat([]byte{byte(n)}, 100), v)
				n++
				return nil
			}))
			require.Equal(t, 100, n)
			return nil
		}))
	})
}

// Whatever is wrong with the database, in the ways of the damage matrix.
func TestSalvage_Matrix(t *testing.T) {
	w := newWreck(t)
	v := &victim{file: w.file[:w.size*w.pages], size: w.size, pages: w.pages}
	n, tried := 0, 0
	for what, file := range v.damages {
		n++
		if os.Getenv("GOUTBOX_TORTURE") == "" && n%61 != 0 || strings.Contains(what, "under its number") {
			continue
		}
		tried++
		w.check(t, w.copyOf(t, file), what)
	}
	t.Logf("%d of %d damages to %d pages", tried, n, w.pages)
}

// Damage to the log alone, and to both.
func TestSalvage_Log(t *testing.T) {
	w := newWreck(t)
	rng := rand.New(rand.NewPCG(3, 4))
	segments, err := filepath.Glob(filepath.Join(w.dir, "wal", "*.wal"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	most := 12
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		most = 300
	}
	for round := range most {
		dir := w.copyOf(t, w.file)
		name := filepath.Join("wal", filepath.Base(segments[rng.IntN(len(segments))]))
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		used := len(bytes.TrimRight(b, "\x00"))
		at := rng.IntN(used)
		what := fmt.Sprintf("round %d: sector of %s at %d", round, name, at)
		switch rng.IntN(3) {
		case 0:
			clear(b[at:min(at+512, len(b))])
		case 1:
			b[at] ^= 1 << rng.IntN(8)
		case 2:
			b = b[:at]
			what += " cut"
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		if rng.IntN(2) == 0 {
			n := 2 + rng.IntN(w.pages-2)
			file := bytes.Clone(w.file)
			clear(file[n*w.size : (n+1)*w.size])
			require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), file, 0o600))
			what += fmt.Sprintf(", and page %d", n)
		}
		w.checkLog(t, dir, what)
	}
	t.Run("gone", func(t *testing.T) {
		dir := w.copyOf(t, w.file)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
		w.checkLog(t, dir, "gone")
	})
}

// checkLog is check where records may be lost: then outcomes may be, too, and what was
// settled comes back.
func (w *wreck) checkLog(t *testing.T, dir, what string) {
	t.Helper()
	got, err := bolt.Salvage(dir, quiet)
	require.NoError(t, err, what)
	report, err := bolt.Verify(dir, quiet)
	require.NoError(t, err, what)
	require.True(t, report.OK(), "%s: %s", what, report.String())
	s, err := bolt.Open(dir, quiet, bolt.WithSegmentBytes(64<<10))
	require.NoError(t, err, what)
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err, what)
		if was, ok := w.tasks[task.ID]; ok && task.Reason != outbox.ReasonDamaged {
			require.Equal(t, was.Payload, task.Payload, what)
		}
	}
	st := stats(t, s)
	require.Equal(t, got.Waiting, st.Pending, "%s: %s", what, got.String())
	require.Equal(t, got.Dead, st.Dead, what)
	audit(t, s)
	require.NoError(t, s.Flush())
	usageIsRight(t, s)
	require.NoError(t, s.Close())
}

// A crash at any step of Salvage, and Salvage again: the same as without the crash
// (R28). And at each of them, Open refuses or has all that there is.
func TestSalvage_Crash(t *testing.T) {
	w := newWreck(t)
	file := bytes.Clone(w.file)
	for n := 2; n < w.pages; n += 5 {
		clear(file[n*w.size : (n+1)*w.size])
	}
	segments, err := filepath.Glob(filepath.Join(w.dir, "wal", "*.wal"))
	require.NoError(t, err)
	damaged := func() string {
		dir := w.copyOf(t, file)
		name := filepath.Join(dir, "wal", filepath.Base(segments[0]))
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		clear(b[4096+1024 : 4096+1536])
		require.NoError(t, os.WriteFile(name, b, 0o600))
		return dir
	}
	whole := damaged()
	want, err := bolt.Salvage(whole, quiet)
	require.NoError(t, err)
	require.NotZero(t, want.Waiting)
	stop := errors.New("stop")
	for _, at := range []string{"log", "built", "aside", "done"} {
		t.Run(at, func(t *testing.T) {
			dir, copied := damaged(), t.TempDir()
			_, err := bolt.Salvage(dir, quiet, bolt.WithStage(func(stage string) error {
				if stage == at {
					copyDir(t, dir, copied)
					return stop
				}
				return nil
			}))
			require.ErrorIs(t, err, stop)
			for _, again := range []string{dir, copied} {
				got, err := bolt.Salvage(again, quiet)
				require.NoError(t, err)
				require.Equal(t, want.Waiting, got.Waiting)
				require.Equal(t, want.Dead, got.Dead)
				if at != "done" {
					require.Equal(t, want.Lost, got.Lost)
				}
				names := []string{}
				for name := range filesIn(t, again) {
					names = append(names, name)
				}
				slices.Sort(names)
				require.True(t, slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "outbox.db.corrupt-") }), "%v", names)
				require.False(t, slices.Contains(names, "outbox.db.tmp"), "%v", names)
				w.checkLog(t, again, at)
			}
		})
	}
}

func TestSalvage_Refuses(t *testing.T) {
	t.Run("an open store", func(t *testing.T) {
		dir := t.TempDir()
		open(t, dir)
		_, err := bolt.Salvage(dir, quiet)
		require.ErrorIs(t, err, outbox.ErrLocked)
	})
	t.Run("no store", func(t *testing.T) {
		_, err := bolt.Salvage(t.TempDir(), quiet)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("the log of another", func(t *testing.T) {
		a, _ := inDatabase(t, keyed("a", ""))
		b, _ := inDatabase(t, keyed("b", ""))
		require.NoError(t, os.RemoveAll(filepath.Join(a, "wal")))
		copyDir(t, filepath.Join(b, "wal"), filepath.Join(a, "wal"))
		before := filesIn(t, a)
		_, err := bolt.Salvage(a, quiet)
		require.ErrorIs(t, err, outbox.ErrMismatch)
		require.Equal(t, before, filesIn(t, a))
	})
}

// A task that the log has, too, is not damaged: the database's copy was written by a
// checkpoint that was cut short.
func TestSalvage_LogHasIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := create(t, s, keyed("a", "k"))[0].ID
	before := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, before) })
	require.NoError(t, s.Close())
	cutCheckpoint(t, before, dir)
	spoil(t, before, "tasks", id[:], zeroed)
	got, err := bolt.Salvage(before, quiet)
	require.NoError(t, err)
	require.Zero(t, got.Damaged, got.String())
	require.EqualValues(t, 1, got.Waiting)
	s = open(t, before)
	require.Equal(t, []string{"a"}, drainNames(t, s))
}

// Records of the meta bucket: what they said follows from the rest, as far as it does.
func TestSalvage_Meta(t *testing.T) {
	for _, record := range []string{"format", "state", "wall", "usage"} {
		t.Run(record, func(t *testing.T) {
			dir, made := inDatabase(t, keyed("a", "k"), keyed("b", "k"), keyed("c", ""))
			spoil(t, dir, "meta", []byte(record), noise)
			_, err := bolt.Open(dir, quiet)
			require.Error(t, err)
			got, err := bolt.Salvage(dir, quiet)
			require.NoError(t, err)
			require.EqualValues(t, 3, got.Waiting, got.String())
			require.Empty(t, got.Lost)
			s := open(t, dir)
			require.EqualValues(t, 3, stats(t, s).Accepted)
			fresh := create(t, s, keyed("d", "k"))[0]
			require.Positive(t, fresh.ID.Compare(made["c"].ID), "P4")
			require.ElementsMatch(t, []string{"a", "b", "c", "d"}, drainNames(t, s))
		})
	}
}

// Without log and state, the tasks alone say what the next ID and time are.
func TestSalvage_TasksAlone(t *testing.T) {
	dir, made := inDatabase(t, keyed("a", "k"), keyed("b", "k"))
	spoil(t, dir, "meta", []byte("state"), noise)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
	got, err := bolt.Salvage(dir, quiet)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Waiting, got.String())
	s, err := bolt.Open(dir, quiet, bolt.WithWallClock(func() time.Time { return time.Unix(1, 0) }))
	require.NoError(t, err)
	defer s.Close()
	fresh := create(t, s, keyed("c", "k"))[0]
	require.Positive(t, fresh.ID.Compare(made["b"].ID), "P4")
	require.Equal(t, []string{"a", "b", "c"}, drainNames(t, s))
}

// Database and log of one store, but of different moments.
func TestSalvage_OlderCopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bolt.WithSegmentBytes(64<<10))
	create(t, s, tasks(0, 50)...)
	require.NoError(t, s.Flush())
	older := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, older) })
	for i := range 20 {
		create(t, s, tasks(100+100*i, 100)...)
		require.NoError(t, s.Flush())
		create(t, s, tasks(9999, 1)...)
		for _, task := range claim(t, s, 1) {
			settle(t, s, outbox.Retry, year, task)
		}
		require.NoError(t, s.Lighten())
	}
	require.NoError(t, s.Flush())
	newer := t.TempDir()
	s.Freeze(func() { copyDir(t, dir, newer) })
	swap := func(db, log string) string {
		dir := t.TempDir()
		copyDir(t, log, dir)
		b, err := os.ReadFile(filepath.Join(db, "outbox.db"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), b, 0o600))
		_, err = bolt.Open(dir, quiet)
		require.ErrorIs(t, err, outbox.ErrMismatch)
		return dir
	}
	t.Run("database", func(t *testing.T) {
		dir := swap(older, newer)
		got, err := bolt.Salvage(dir, quiet)
		require.NoError(t, err)
		require.NotEmpty(t, got.LostRecords)
		require.GreaterOrEqual(t, got.Waiting, uint64(50))
		s := open(t, dir)
		require.Equal(t, got.Waiting, stats(t, s).Pending)
	})
	t.Run("log", func(t *testing.T) {
		dir := swap(newer, older)
		got, err := bolt.Salvage(dir, quiet)
		require.NoError(t, err)
		require.EqualValues(t, 2070, got.Waiting)
		s := open(t, dir)
		require.EqualValues(t, 2070, stats(t, s).Pending)
		create(t, s, tasks(0, 1)...)
	})
}
