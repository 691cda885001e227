package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// isThere checks that what Create has told is what the store has.
func isThere(t *testing.T, s outbox.Store, created ...outbox.Task) {
	t.Helper()
	there := map[outbox.ID]outbox.Task{}
	for _, task := range list(t, s) {
		there[task.ID] = task
	}
	for _, task := range created {
		require.Contains(t, there, task.ID, task.Name)
		require.Equal(t, there[task.ID].Name, task.Name)
		require.Equal(t, there[task.ID].CreatedAt, task.CreatedAt)
		require.Equal(t, there[task.ID].DueAt, task.DueAt)
	}
}

// The connection dies at each message of those that accept events of many callers: each is accepted once, and its
// caller is told as what.
func TestDoubt_Cut(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		for _, after := range []bool{false, true} {
			c := newCutter(t, driver)
			const callers = 6
			total := 0
			for n := range int64(8) { // how many messages there are depends on who goes with whom
				created := make([][]outbox.Task, callers)
				var all sync.WaitGroup
				c.cut(n/2+1, after, func() {
					for i := range callers {
						created[i] = []outbox.Task{event(fmt.Sprint(n, i)), event("with it", func(task *outbox.Task) { task.Delay = time.Minute })}
						all.Go(func() { require.NoError(t, c.s.Create(t.Context(), created[i])) })
					}
					all.Wait()
				})
				for _, tasks := range created {
					isThere(t, c.s, tasks...)
				}
				total += 2 * callers
				require.EqualValues(t, total, c.stats(t).Accepted)
			}
			require.Greater(t, c.p.cuts.Load(), int64(3))
			require.NoError(t, c.s.Audit(t.Context()))
		}
	})
}

// A statement that is still at work when its connection is dead is waited for: it is not sent again.
func TestDoubt_StillAtWork(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		c := newCutter(t, driver)
		direct := openDB(t, driver)
		c.db.SetMaxOpenConns(1) // on which everything is prepared then
		require.NoError(t, c.s.Create(t.Context(), []outbox.Task{event("first")}))
		tx, err := direct.Begin()
		require.NoError(t, err)
		defer tx.Rollback() // nothing after a commit
		_, err = tx.Exec("SELECT FROM " + c.table + "_ledger WHERE call IS NOT NULL FOR UPDATE")
		require.NoError(t, err)
		c.p.rude.Store(true)
		before := c.p.cuts.Load()
		messages := map[string]int64{"pgx": 1, "postgres": 2}[driver] // lib/pq has it described first
		c.p.cut(messages, false)
		tasks, done := []outbox.Task{event("once")}, make(chan error, 1)
		go func() { done <- c.s.Create(context.WithoutCancel(t.Context()), tasks) }()
		require.Eventually(t, func() bool { return c.p.cuts.Load() > before }, soon, tick)
		waits(t, direct, c.table+`_ledger" SET call = CASE`) // who asks; pgx has the server give the statement up meanwhile
		require.Empty(t, done)
		require.NoError(t, tx.Commit())
		require.NoError(t, <-done)
		require.Equal(t, "first once", names(list(t, c.s)))
		isThere(t, c.s, tasks...)
		require.NoError(t, c.s.Audit(t.Context()))
	})
}

// What was delivered before its caller could ask was accepted all the same.
func TestDoubt_DeliveredAlready(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		c := newCutter(t, driver)
		direct := openDB(t, driver)
		c.db.SetMaxOpenConns(1) // on which everything is prepared then
		require.NoError(t, c.s.Create(t.Context(), []outbox.Task{event("first")}))
		_, err := direct.Exec(fmt.Sprintf(`CREATE FUNCTION %[1]s_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			DELETE FROM %[1]s_tasks WHERE id = NEW.id; UPDATE %[1]s_ledger SET delivered = delivered + 1, normal = normal - 1
			WHERE id = (SELECT max(id) FROM %[1]s_ledger); RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER gone AFTER INSERT ON %[1]s_tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION %[1]s_gone()`, c.table))
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := direct.Exec(fmt.Sprintf("DROP FUNCTION %s_gone CASCADE", c.table))
			require.NoError(t, err)
		})
		tasks := []outbox.Task{event("once")}
		n := map[string]int64{"pgx": 1, "postgres": 2}[driver]
		require.False(t, c.cut(n, true, func() { require.NoError(t, c.s.Create(t.Context(), tasks)) }))
		require.Equal(t, "first", names(list(t, c.s)))
		require.False(t, tasks[0].ID.IsZero())
		require.WithinDuration(t, time.Now(), tasks[0].CreatedAt, time.Minute)
		require.EqualValues(t, 1, c.stats(t).Delivered)
	})
}

// The server is killed amid groups, again and again: each call is told the truth, and its events are there once (P1).
func TestDoubt_KilledServer(t *testing.T) {
	dsn(t) // a server can be had
	srv, err := newServer()
	require.NoError(t, err)
	t.Cleanup(srv.remove)
	db, err := sql.Open("pgx", srv.dsn())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s := open(t, db, defaultTable)
	const callers, kills = 24, 3
	var mu sync.Mutex
	accepted, unknown := map[outbox.ID]bool{}, 0
	ctx, enough := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				tasks := []outbox.Task{event("a")}
				err := s.Create(context.WithoutCancel(ctx), tasks)
				mu.Lock()
				if err == nil {
					accepted[tasks[0].ID] = true
				} else if errors.Is(err, outbox.ErrOutcomeUnknown) {
					unknown++
				}
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted)
	}
	for kill := range kills + 1 {
		now := count()
		require.Eventually(t, func() bool { return count() > now+500 }, 3*soon, tick)
		if kill < kills {
			srv.kill()
			require.NoError(t, srv.start())
		}
	}
	enough()
	all.Wait()
	there := list(t, s)
	require.LessOrEqual(t, len(there), len(accepted)+unknown, "some were accepted twice")
	for _, task := range there {
		delete(accepted, task.ID)
	}
	require.Empty(t, accepted, "lost")
	t.Logf("%d are there, %d calls do not know", len(there), unknown)
	require.NoError(t, s.Audit(t.Context()))
	require.NoError(t, s.Close())
}
