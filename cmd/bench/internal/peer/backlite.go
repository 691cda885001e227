package peer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/mikestefanello/backlite"
)

// Backlite is a task queue in tables of SQLite.
var Backlite = subject.Subject{
	Name: "backlite",
	About: "github.com/mikestefanello/backlite" + version("github.com/mikestefanello/backlite") + ", 10 workers, nothing retained, on " + settings + "; " +
		"payloads go through JSON, as it does with all",
	Durable:      true,
	Most:         slow,
	Can:          []subject.Ability{subject.Joins, subject.Refusals},
	Open:         func(dir string) (subject.Queue, error) { return openBacklite(dir, false) },
	OpenTx:       func(dir string) (subject.TxQueue, error) { return openBacklite(dir, false) },
	OpenUnsynced: func(dir string) (subject.Queue, error) { return openBacklite(dir, true) },
}

// backliteTask is an event.
type backliteTask struct{ Payload []byte }

// Config is that of the queue.
func (backliteTask) Config() backlite.QueueConfig {
	return backlite.QueueConfig{Name: "bench", MaxAttempts: 3, Timeout: 30 * time.Second, Backoff: 5 * time.Millisecond}
}

type backliteQueue struct {
	db      *sql.DB
	client  *backlite.Client
	publish atomic.Pointer[func([]byte) error]
}

func openBacklite(dir string, unsynced bool) (*backliteQueue, error) {
	db, err := openSQLite(dir, unsynced)
	if err != nil {
		return nil, err
	}
	q := &backliteQueue{db: db}
	q.client, err = backlite.NewClient(backlite.ClientConfig{DB: db, Logger: quiet{}, NumWorkers: 10, ReleaseAfter: time.Minute})
	if err == nil {
		err = q.client.Install()
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.client.Register(backlite.NewQueue(func(_ context.Context, t backliteTask) error { return (*q.publish.Load())(t.Payload) }))
	return q, nil
}

// quiet logs nothing: a refusal is no error here.
type quiet struct{}

func (quiet) Info(string, ...any)  {}
func (quiet) Error(string, ...any) {}

func (q *backliteQueue) Enqueue(ctx context.Context, payload []byte) error {
	_, err := q.client.Add(backliteTask{payload}).Ctx(ctx).Save()
	return err
}

func (q *backliteQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	tasks := make([]backlite.Task, len(payloads))
	for i, p := range payloads {
		tasks[i] = backliteTask{p}
	}
	_, err := q.client.Add(tasks...).Ctx(ctx).Save()
	return err
}

func (q *backliteQueue) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	err := inTx(ctx, q.db, payload, func(tx *sql.Tx) error {
		_, err := q.client.Add(backliteTask{payload}).Ctx(ctx).Tx(tx).Save()
		return err
	})
	if err == nil {
		q.client.Notify()
	}
	return err
}

func (q *backliteQueue) Rows(ctx context.Context) (uint64, error) { return countRows(ctx, q.db) }

func (q *backliteQueue) Try(ctx context.Context, publish func([]byte) error) error {
	q.publish.Store(&publish)
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	q.client.Start(hard)
	<-ctx.Done()
	patience, done := context.WithTimeout(hard, 10*time.Second)
	defer done()
	if !q.client.Stop(patience) {
		return fmt.Errorf("backlite did not stop")
	}
	return nil
}

func (q *backliteQueue) Consume(ctx context.Context, publish func([]byte)) error {
	return q.Try(ctx, func(payload []byte) error {
		publish(payload)
		return nil
	})
}

func (q *backliteQueue) Drain(ctx context.Context, publish func([]byte)) error {
	return untilEmpty(ctx, q, publish)
}

func (q *backliteQueue) List(ctx context.Context, f func([]byte)) error {
	return each(ctx, q.db, "SELECT task FROM backlite_tasks", func(b []byte) error {
		var t backliteTask
		err := json.Unmarshal(b, &t)
		f(t.Payload)
		return err
	})
}

func (q *backliteQueue) Counts(ctx context.Context) (subject.Counts, error) {
	n, err := count(ctx, q.db, "SELECT count(*) FROM backlite_tasks")
	return subject.Counts{Waiting: n}, err
}

func (q *backliteQueue) Close() error { return q.db.Close() }
