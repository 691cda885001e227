package peer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// River is a job queue in tables of SQLite.
var River = subject.Subject{
	Name: "river",
	About: "github.com/riverqueue/river" + version("github.com/riverqueue/river") + " with riversqlite, 100 workers, FetchCooldown and FetchPollInterval 10 ms (defaults: 100 ms and 1 s), on " + settings + "; " +
		"payloads go through JSON, as it does with all; the newest version that Go 1.25 takes",
	Durable:      true,
	Most:         slow,
	Can:          []subject.Ability{subject.Joins, subject.Refusals},
	Open:         func(dir string) (subject.Queue, error) { return openRiver(dir, false) },
	OpenTx:       func(dir string) (subject.TxQueue, error) { return openRiver(dir, false) },
	OpenUnsynced: func(dir string) (subject.Queue, error) { return openRiver(dir, true) },
}

// riverArgs is an event.
type riverArgs struct {
	Payload []byte `json:"payload"`
}

// Kind is the name of all events.
func (riverArgs) Kind() string { return "bench" }

type riverQueue struct {
	db     *sql.DB
	client *river.Client[*sql.Tx] // inserts
}

func openRiver(dir string, unsynced bool) (*riverQueue, error) {
	db, err := openSQLite(dir, unsynced)
	if err != nil {
		return nil, err
	}
	q := &riverQueue{db: db}
	migrator, err := rivermigrate.New(riversqlite.New(db), &rivermigrate.Config{Logger: silent})
	if err == nil {
		_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		q.client, err = river.NewClient(riversqlite.New(db), &river.Config{Logger: silent, MaxAttempts: 3})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return q, nil
}

// silent logs nothing: a refusal is no error here.
var silent = slog.New(slog.DiscardHandler)

func (q *riverQueue) Enqueue(ctx context.Context, payload []byte) error {
	_, err := q.client.Insert(ctx, riverArgs{payload}, nil)
	return err
}

func (q *riverQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	jobs := make([]river.InsertManyParams, len(payloads))
	for i, p := range payloads {
		jobs[i] = river.InsertManyParams{Args: riverArgs{p}}
	}
	_, err := q.client.InsertMany(ctx, jobs)
	return err
}

func (q *riverQueue) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	return inTx(ctx, q.db, payload, func(tx *sql.Tx) error {
		_, err := q.client.InsertTx(ctx, tx, riverArgs{payload}, nil)
		return err
	})
}

func (q *riverQueue) Rows(ctx context.Context) (uint64, error) { return countRows(ctx, q.db) }

// soon is a retry policy.
type soon struct{}

// NextRetry is a few milliseconds away.
func (soon) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(5 * time.Millisecond) }

func (q *riverQueue) Try(ctx context.Context, publish func([]byte) error) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[riverArgs]) error { return publish(job.Args.Payload) }))
	client, err := river.NewClient(riversqlite.New(q.db), &river.Config{
		Logger: silent, Workers: workers, MaxAttempts: 3, RetryPolicy: soon{},
		FetchCooldown: 10 * time.Millisecond, FetchPollInterval: 10 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
	})
	if err != nil {
		return err
	}
	hard := context.WithoutCancel(ctx)
	if err := client.Start(hard); err != nil {
		return err
	}
	<-ctx.Done()
	patience, done := context.WithTimeout(hard, 20*time.Second)
	defer done()
	return client.Stop(patience)
}

func (q *riverQueue) Consume(ctx context.Context, publish func([]byte)) error {
	return q.Try(ctx, func(payload []byte) error {
		publish(payload)
		return nil
	})
}

func (q *riverQueue) Drain(ctx context.Context, publish func([]byte)) error {
	return untilEmpty(ctx, q, publish)
}

// waiting are the jobs that are not finalized.
const waiting = " FROM river_job WHERE finalized_at IS NULL"

func (q *riverQueue) List(ctx context.Context, f func([]byte)) error {
	return each(ctx, q.db, "SELECT json(args)"+waiting, func(b []byte) error {
		var args riverArgs
		err := json.Unmarshal(b, &args)
		f(args.Payload)
		return err
	})
}

func (q *riverQueue) Counts(ctx context.Context) (c subject.Counts, err error) {
	if c.Waiting, err = count(ctx, q.db, "SELECT count(*)"+waiting); err == nil {
		c.Lost, err = count(ctx, q.db, "SELECT count(*) FROM river_job WHERE state IN ('discarded', 'cancelled')")
	}
	return c, err
}

func (q *riverQueue) Close() error { return q.db.Close() }
