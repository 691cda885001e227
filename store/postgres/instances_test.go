package postgres_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

const (
	envChild = "GOUTBOX_POSTGRES_CHILD" // what the process does: its number, driver, table and DSN, a line each

	events     = 50_000 // of all instances
	instances  = 4
	batch      = 250
	childLease = 3 * time.Second
)

// eventsOf makes a batch: four in five with one of a thousand keys.
func eventsOf(n int) []outbox.Task {
	tasks := make([]outbox.Task, batch)
	for i := range tasks {
		tasks[i] = event("a")
		if i%5 > 0 {
			tasks[i].Key = fmt.Sprint("k", (n*batch+i)%1000)
		}
	}
	return tasks
}

// runChild is one instance: it creates its part, telling of each batch what was accepted, and delivers
// into a table, until its input ends.
func runChild(spec string) int {
	run, parts := child, strings.Split(spec, "\n")
	if parts[0] == "copy" {
		run = copyChild
	}
	if err := run(parts); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func child(spec []string) error {
	number, driver, table := spec[0], spec[1], spec[2]
	db, err := sql.Open(driver, spec[3])
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := postgres.New(db, postgres.WithTable(table), postgres.WithLease(childLease), postgres.WithRetryInterval(50*time.Millisecond))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var all sync.WaitGroup
	all.Go(func() {
		ob := outbox.New(s, quiet, outbox.WithBatch(batch, 0, 0), outbox.WithPublishTimeout(time.Second))
		if err := ob.StartBatch(ctx, deliver(db, table, number)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	for n := range events / instances / batch {
		tasks := eventsOf(n)
		if err := s.Create(ctx, tasks); err != nil {
			return err
		}
		for _, t := range tasks {
			fmt.Println(t.ID)
		}
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent closes it
	stop()
	all.Wait()
	return s.Close()
}

// deliver writes what is delivered by whom into a table, in one statement, and under which claim
// the event is at that moment.
func deliver(db *sql.DB, table, number string) outbox.BatchPublisher {
	return func(ctx context.Context, events []outbox.Event) []error {
		var text strings.Builder
		for i, e := range events {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "('%s','%s',%s,'%s'::uuid)", e.ID, e.Key, number, uuid(e.ID))
		}
		_, err := db.ExecContext(ctx, "INSERT INTO "+table+"_delivered (id, key, who, token, lease_end) "+
			"SELECT v.id, v.key, v.who, t.token, t.lease_end FROM (VALUES "+text.String()+") AS v(id, key, who, task) LEFT JOIN "+table+"_tasks t ON t.id = v.task")
		if err != nil {
			return []error{err}
		}
		return nil
	}
}

// instance is a child process.
type instance struct {
	cmd      *exec.Cmd
	accepted []string
	read     chan struct{} // closed when its output has ended
	stop     func() error
}

func startInstance(t *testing.T, number int, table string) *instance {
	t.Helper()
	c := &instance{cmd: exec.Command(os.Args[0]), read: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), envChild+"="+strings.Join([]string{strconv.Itoa(number), drivers[number%2], table, dsn(t)}, "\n"))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	c.stop = in.Close
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it has ended, as a rule
	go func() {                                    // ends with the process
		defer close(c.read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.accepted = append(c.accepted, lines.Text())
		}
	}()
	return c
}

// Four instances, of both drivers, with 50,000 events together; two of them are killed. Nothing is lost
// (P1, P2), the order of keys is kept (P4), and what is delivered twice is what one
// had in flight, of those killed as a rule, when its lease has ended and not before.
func TestInstances_TwoKilled(t *testing.T) {
	db := openDB(t, "pgx")
	table := newTable(t, db)
	s := open(t, db, table)
	_, err := db.Exec(`CREATE UNLOGGED TABLE ` + table + `_delivered (seq bigserial, id text, key text, who int, token bigint, lease_end timestamptz, at timestamptz DEFAULT clock_timestamp())`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec(`DROP TABLE ` + table + `_delivered`)
		require.NoError(t, err)
	})
	var all []*instance
	for n := range instances {
		all = append(all, startInstance(t, n, table))
	}
	delivered := func() (n int) {
		require.NoError(t, db.QueryRow(`SELECT count(*) FROM `+table+`_delivered`).Scan(&n))
		return n
	}
	for n, c := range all[:2] {
		require.Eventually(t, func() bool { return delivered() > events/10*(n+1) }, 6*soon, 5*tick)
		require.NoError(t, c.cmd.Process.Signal(syscall.SIGKILL))
		<-c.read
		_ = c.cmd.Wait() // killed
	}
	var st outbox.Stats
	for n := 0; ; n++ { // what the killed ones have left to create
		st, err = s.Stats(t.Context())
		require.NoError(t, err)
		if st.Accepted >= events {
			break
		}
		tasks := eventsOf(n)
		require.NoError(t, s.Create(t.Context(), tasks))
	}
	require.Eventually(t, func() bool {
		st, err = s.Stats(t.Context())
		return err == nil && st.Pending+st.InFlight == 0
	}, 6*soon, 5*tick)
	for _, c := range all[2:] {
		require.NoError(t, c.stop())
		<-c.read
		require.NoError(t, c.cmd.Wait())
	}
	require.NoError(t, s.Audit(t.Context()))
	require.NoError(t, s.Close())
	require.Equal(t, st.Accepted, st.Delivered)
	checkDelivered(t, db, table, all, st)
}

// checkDelivered reads the table of deliveries.
func checkDelivered(t *testing.T, db *sql.DB, table string, all []*instance, st outbox.Stats) {
	t.Helper()
	rows, err := db.Query(`SELECT id, key, who, at, coalesce(token, 0), lease_end FROM ` + table + `_delivered ORDER BY seq`)
	require.NoError(t, err)
	defer rows.Close()
	type first struct {
		who   int
		at    time.Time
		token int64
		lease sql.NullTime
	}
	seen, last := map[string]first{}, map[string]string{}
	again, slow := 0, 0
	for rows.Next() {
		var id, k string
		var f first
		require.NoError(t, rows.Scan(&id, &k, &f.who, &f.at, &f.token, &f.lease))
		if old, twice := seen[id]; twice {
			again++
			if old.who >= 2 {
				slow++
			}
			if old.lease.Valid && f.token != old.token && f.at.Before(old.lease.Time) {
				t.Errorf("%s was delivered again by instance %d at %v, within the lease of instance %d until %v", id, f.who, f.at, old.who, old.lease.Time)
			}
			continue
		}
		seen[id] = f
		if k != "" {
			if id <= last[k] {
				t.Errorf("%s was delivered after %s of %s", id, last[k], k)
			}
			last[k] = id
		}
	}
	require.NoError(t, rows.Err())
	require.EqualValues(t, st.Accepted, len(seen))
	for n, c := range all {
		for _, id := range c.accepted {
			if _, ok := seen[id]; !ok {
				t.Errorf("%s was accepted by instance %d, and lost", id, n)
			}
		}
	}
	t.Logf("%d events, %d accepted by those killed, %d delivered again, %d of them by one that lived and was slow",
		len(seen), len(all[0].accepted)+len(all[1].accepted), again, slow)
}
