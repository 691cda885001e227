package postgres_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// telling says of each import that it is done, before anything is deleted from the source.
type telling struct {
	outbox.Store
	outbox.Importer
}

func (s telling) Import(ctx context.Context, tasks []outbox.Task) (int, error) {
	n, err := s.Importer.Import(ctx, tasks)
	fmt.Println("imported")
	return n, err
}

// copyChild copies from one store to another, and then waits to be killed.
func copyChild(spec []string) error {
	toServer, driver, table, dir := spec[1] == "to", spec[2], spec[3], spec[4]
	db, err := sql.Open(driver, spec[5])
	if err != nil {
		return err
	}
	server, err := postgres.New(db, postgres.WithTable(table))
	if err != nil {
		return err
	}
	disk, err := bolt.Open(dir, silent)
	if err != nil {
		return err
	}
	if toServer {
		_, err = outbox.Copy(context.Background(), disk, telling{server, server})
	} else {
		_, err = outbox.Copy(context.Background(), server, telling{disk, disk})
	}
	if err != nil {
		return err
	}
	fmt.Println("done")
	select {} // until it is killed
}

var silent = bolt.WithLogger(slog.New(slog.DiscardHandler))

const keys = 40

// laden fills a store: a third has keys, one of which is parked; some have been tried, some are
// dead, some delayed for a year.
func laden(t *testing.T, s outbox.Store, n int) {
	t.Helper()
	parks := event("parks", key("parked"), func(task *outbox.Task) { task.KeyPolicy = outbox.ParkWholeKey })
	require.NoError(t, s.Create(t.Context(), []outbox.Task{parks}))
	require.NoError(t, settle(t, s, outbox.Bury, claim(t, s, 1, aWhile)...))
	const atOnce = 250
	for i := 0; i < n; i += atOnce {
		tasks := make([]outbox.Task, min(atOnce, n-i))
		for j := range tasks {
			switch tasks[j] = event(fmt.Sprint("n", i+j)); {
			case j == atOnce-1:
				tasks[j].Key = "parked"
			case j%3 == 0:
				tasks[j].Key = fmt.Sprint("k", rand.N(keys))
			case j%10 == 7:
				tasks[j].Delay = 365 * 24 * time.Hour
			}
		}
		require.NoError(t, s.Create(t.Context(), tasks))
		for j, task := range claim(t, s, 40, aWhile) {
			o := outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Release}
			if task.Key == "" && j%2 == 0 {
				o.Verdict, o.Delay = outbox.Retry, 365*24*time.Hour
			} else if task.Key == "" {
				o.Verdict, o.Reason = outbox.Bury, outbox.ReasonPermanent
			}
			o.Failure = outbox.Failure{At: time.Now(), Attempt: task.Attempt, Error: "no"}
			require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{o}))
		}
	}
}

// states lists what a store holds.
func states(t *testing.T, s outbox.Store) (list []string) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		line := fmt.Sprint(task.ID, task.Name, task.Key, task.State, task.Attempts, task.Reason)
		for _, f := range task.Failures {
			line += fmt.Sprint(f.At.UnixNano(), f.Attempt, f.Error)
		}
		list = append(list, line)
	}
	return list
}

// killCopy kills a process that copies after some imports, starts another one, until one
// has ended. It returns how many.
func killCopy(t *testing.T, spec ...string) (lives int) {
	t.Helper()
	for ended := false; !ended; lives++ {
		require.Less(t, lives, 100)
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), envChild+"="+strings.Join(append([]string{"copy"}, spec...), "\n"))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		r := bufio.NewReader(out)
		for range 1 + rand.N(5) {
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			if ended = line == "done\n"; ended {
				break
			}
		}
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait())
	}
	return lives
}

// A process is killed while it copies from a disk to a server, or back, again and again: in the end each
// event is there once, as it was (P1, P5), and those of a key are claimed in their order (P4).
func TestCopy_Kill(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		for _, way := range []string{"to", "from"} {
			t.Run(way, func(t *testing.T) {
				db := openDB(t, driver)
				table, dir := newTable(t, db), t.TempDir()
				stores := func() (from, to outbox.Store) {
					t.Helper()
					server := open(t, db, table)
					disk, err := bolt.Open(dir, silent)
					require.NoError(t, err)
					if way == "to" {
						return disk, server
					}
					return server, disk
				}
				from, to := stores()
				laden(t, from, 3000)
				want := states(t, from)
				require.NoError(t, errors.Join(from.Close(), to.Close()))
				lives := killCopy(t, way, driver, table, dir, dsn(t))
				t.Logf("%d lives", lives)
				require.Greater(t, lives, 2)

				from, to = stores()
				got, err := outbox.Copy(t.Context(), from, to)
				require.NoError(t, err)
				require.Zero(t, got)
				require.Empty(t, states(t, from))
				require.Equal(t, want, states(t, to))
				st, err := to.Stats(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, len(want), st.Accepted)
				drained(t, to)
				audited(t, from)
				audited(t, to)
			})
		}
	})
}

// drained delivers what is due, and checks that keys keep their order and a parked one is.
func drained(t *testing.T, s outbox.Store) {
	t.Helper()
	last := map[string]outbox.ID{}
	for {
		got := claim(t, s, 1000, aWhile)
		for _, task := range got {
			require.NotEqual(t, "parked", task.Key)
			require.True(t, task.Key == "" || task.ID.Compare(last[task.Key]) > 0, "%s after %s", task.ID, last[task.Key])
			last[task.Key] = task.ID
		}
		if len(got) == 0 {
			break
		}
		require.NoError(t, settle(t, s, outbox.Done, got...))
	}
	require.Len(t, last, keys+1)
	behind := 0
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		require.True(t, task.State == outbox.Dead || task.Key == "", "%s of %s is left", task.Name, task.Key)
		if task.Reason == outbox.ReasonKeyParked {
			behind++
		}
	}
	require.Positive(t, behind)
}

// audited closes a store whose counters are right.
func audited(t *testing.T, s outbox.Store) {
	t.Helper()
	var err error
	switch s := s.(type) {
	case *postgres.Store:
		err = s.Audit(t.Context())
	case *bolt.Store:
		_, err = s.Audit(t.Context())
	}
	require.NoError(t, cmp.Or(err, s.Close()))
}

// What an instance had in flight when it was killed is refused until its lease has ended, and then
// moves, though nobody claims.
func TestCopy_OfAKilledInstance(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		s, db, table := newStore(t, driver)
		require.NoError(t, s.Create(t.Context(), []outbox.Task{event("a"), event("b", key("k"))}))
		require.Len(t, claim(t, s, 2, aWhile), 2)
		disk, err := bolt.Open(t.TempDir(), silent)
		require.NoError(t, err)
		_, err = outbox.Copy(t.Context(), s, disk)
		require.ErrorIs(t, err, outbox.ErrInFlight)
		_, err = db.Exec("UPDATE " + table + "_tasks SET lease_end = clock_timestamp() WHERE state = 1")
		require.NoError(t, err)
		got, err := outbox.Copy(t.Context(), s, disk)
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Events)
		require.Len(t, claim(t, disk, 2, aWhile), 2)
		audited(t, disk)
	})
}
