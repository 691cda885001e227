package peer

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"maragu.dev/goqite"
)

// Goqite is a queue in a table of SQLite.
var Goqite = subject.Subject{
	Name: "goqite",
	About: "maragu.dev/goqite" + version("maragu.dev/goqite") + ", defaults, on " + settings + "; a batch is a transaction with a Send for each event; " +
		"one reader, Receive, publish, Delete, that looks every 10 ms when there is nothing",
	Durable:      true,
	Most:         slow,
	Can:          []subject.Ability{subject.Joins},
	Open:         func(dir string) (subject.Queue, error) { return openGoqite(dir, false) },
	OpenTx:       func(dir string) (subject.TxQueue, error) { return openGoqite(dir, false) },
	OpenUnsynced: func(dir string) (subject.Queue, error) { return openGoqite(dir, true) },
}

// goqiteSchema is the table that goqite works on; its module leaves making it to the
// application. Columns, trigger and index have to be those that it documents.
const goqiteSchema = `
CREATE TABLE IF NOT EXISTS goqite (
	id       TEXT PRIMARY KEY DEFAULT ('m_' || lower(hex(randomblob(16)))),
	queue    TEXT NOT NULL,
	body     BLOB NOT NULL,
	priority INTEGER NOT NULL DEFAULT 0,
	received INTEGER NOT NULL DEFAULT 0,
	created  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	updated  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	timeout  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT;
CREATE INDEX IF NOT EXISTS goqite_next ON goqite (queue, priority DESC, created);
CREATE TRIGGER IF NOT EXISTS goqite_touch AFTER UPDATE ON goqite BEGIN
	UPDATE goqite SET updated = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE id = OLD.id;
END`

type goqiteQueue struct {
	db *sql.DB
	q  *goqite.Queue
}

func openGoqite(dir string, unsynced bool) (*goqiteQueue, error) {
	db, err := openSQLite(dir, unsynced)
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(goqiteSchema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &goqiteQueue{db, goqite.New(goqite.NewOpts{DB: db, Name: "bench"})}, nil
}

func (q *goqiteQueue) Enqueue(ctx context.Context, payload []byte) error {
	return q.q.Send(ctx, goqite.Message{Body: payload})
}

func (q *goqiteQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	return inTx(ctx, q.db, nil, func(tx *sql.Tx) error {
		for _, p := range payloads {
			if err := q.q.SendTx(ctx, tx, goqite.Message{Body: p}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (q *goqiteQueue) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	return inTx(ctx, q.db, payload, func(tx *sql.Tx) error { return q.q.SendTx(ctx, tx, goqite.Message{Body: payload}) })
}

func (q *goqiteQueue) Rows(ctx context.Context) (uint64, error) { return countRows(ctx, q.db) }

func (q *goqiteQueue) Consume(ctx context.Context, publish func([]byte)) error {
	for ctx.Err() == nil {
		m, err := q.q.ReceiveAndWait(ctx, 10*time.Millisecond)
		if err != nil || m == nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		publish(m.Body)
		if err := q.q.Delete(context.WithoutCancel(ctx), m.ID); err != nil {
			return err
		}
	}
	return nil
}

func (q *goqiteQueue) Drain(ctx context.Context, publish func([]byte)) error {
	for ctx.Err() == nil {
		m, err := q.q.Receive(ctx)
		if err != nil || m == nil {
			return err
		}
		publish(m.Body)
		if err := q.q.Delete(ctx, m.ID); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (q *goqiteQueue) List(ctx context.Context, f func([]byte)) error {
	return each(ctx, q.db, "SELECT body FROM goqite", func(b []byte) error {
		f(b)
		return nil
	})
}

func (q *goqiteQueue) Counts(ctx context.Context) (subject.Counts, error) {
	n, err := count(ctx, q.db, "SELECT count(*) FROM goqite")
	return subject.Counts{Waiting: n}, err
}

func (q *goqiteQueue) Close() error { return q.db.Close() }
