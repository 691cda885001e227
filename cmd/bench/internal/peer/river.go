package peer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// River is a job queue in tables of SQLite.
var River = subject.Subject{
	Name: "river",
	About: "github.com/riverqueue/river" + version("github.com/riverqueue/river") + " with riversqlite, " + fetchingSQLite.String() + " (defaults: 100 ms and 1 s), on " + settings + "; " +
		"payloads go through JSON, as it does with all; the newest version for Go 1.25 that could be had",
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

// fetching is how jobs are taken and worked on.
type fetching struct {
	workers        int
	cooldown, poll time.Duration
}

var fetchingSQLite = fetching{workers: 100, cooldown: 10 * time.Millisecond, poll: 10 * time.Millisecond}

func (f fetching) String() string {
	return fmt.Sprintf("%d workers, FetchCooldown %s, FetchPollInterval %s", f.workers, f.cooldown, f.poll)
}

// riverQueue is River on a database with transactions of type T.
type riverQueue[T any] struct {
	db       *sql.DB
	driver   func() riverdriver.Driver[T]
	client   *river.Client[T] // inserts
	fetching fetching
	payload  string // the arguments of a job, in SQL
}

// riverSQLite is one on SQLite.
type riverSQLite struct{ *riverQueue[*sql.Tx] }

func openRiver(dir string, unsynced bool) (*riverSQLite, error) {
	db, err := openSQLite(dir, unsynced)
	if err != nil {
		return nil, err
	}
	q := &riverSQLite{&riverQueue[*sql.Tx]{
		db:       db,
		driver:   func() riverdriver.Driver[*sql.Tx] { return riversqlite.New(db) },
		fetching: fetchingSQLite,
		payload:  "json(args)",
	}}
	if err := q.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return q, nil
}

// prepare makes the tables and the client that inserts.
func (q *riverQueue[T]) prepare() error {
	migrator, err := rivermigrate.New(q.driver(), &rivermigrate.Config{Logger: silent})
	if err == nil {
		_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		q.client, err = river.NewClient(q.driver(), &river.Config{Logger: silent, MaxAttempts: 3})
	}
	return err
}

// silent logs nothing: a refusal is no error here.
var silent = slog.New(slog.DiscardHandler)

func (q *riverQueue[T]) Enqueue(ctx context.Context, payload []byte) error {
	_, err := q.client.Insert(ctx, riverArgs{payload}, nil)
	return err
}

func (q *riverQueue[T]) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	jobs := make([]river.InsertManyParams, len(payloads))
	for i, p := range payloads {
		jobs[i] = river.InsertManyParams{Args: riverArgs{p}}
	}
	_, err := q.client.InsertMany(ctx, jobs)
	return err
}

func (q *riverSQLite) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	return inTx(ctx, q.db, payload, func(tx *sql.Tx) error {
		_, err := q.client.InsertTx(ctx, tx, riverArgs{payload}, nil)
		return err
	})
}

func (q *riverQueue[T]) Rows(ctx context.Context) (uint64, error) { return countRows(ctx, q.db) }

// soon is a retry policy.
type soon struct{}

// NextRetry is a few milliseconds away.
func (soon) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(5 * time.Millisecond) }

func (q *riverQueue[T]) Try(ctx context.Context, publish func([]byte) error) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[riverArgs]) error { return publish(job.Args.Payload) }))
	client, err := river.NewClient(q.driver(), &river.Config{
		Logger: silent, Workers: workers, MaxAttempts: 3, RetryPolicy: soon{},
		FetchCooldown: q.fetching.cooldown, FetchPollInterval: q.fetching.poll,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: q.fetching.workers}},
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

func (q *riverQueue[T]) Consume(ctx context.Context, publish func([]byte)) error {
	return q.Try(ctx, func(payload []byte) error {
		publish(payload)
		return nil
	})
}

func (q *riverQueue[T]) Drain(ctx context.Context, publish func([]byte)) error {
	return untilEmpty(ctx, q, publish)
}

// waiting are the jobs that are not finalized.
const waiting = " FROM river_job WHERE finalized_at IS NULL"

func (q *riverQueue[T]) List(ctx context.Context, f func([]byte)) error {
	return each(ctx, q.db, "SELECT "+q.payload+waiting, func(b []byte) error {
		var args riverArgs
		err := json.Unmarshal(b, &args)
		f(args.Payload)
		return err
	})
}

func (q *riverQueue[T]) Counts(ctx context.Context) (c subject.Counts, err error) {
	if c.Waiting, err = count(ctx, q.db, "SELECT count(*)"+waiting); err == nil {
		c.Lost, err = count(ctx, q.db, "SELECT count(*) FROM river_job WHERE state IN ('discarded', 'cancelled')")
	}
	return c, err
}

func (q *riverQueue[T]) Close() error { return q.db.Close() }
