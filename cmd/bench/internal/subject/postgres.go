package subject

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/cmd/bench/internal/server"
	"github.com/goutbox/goutbox/store/postgres"
)

// Postgres is store/postgres with default options, on a server that -dsn names.
var Postgres = Subject{Name: "postgres", On: onPostgres}

func onPostgres(srv *server.Server) Subject {
	return Subject{
		Name: "postgres",
		About: fmt.Sprintf("goutbox store/postgres, default options, with pgx and database/sql, up to %d connections, all kept; "+
			"publishing and settling as the outbox does by default", srv.Conns),
		Durable: true, Elsewhere: true,
		Most:    mostOnServer,
		Can:     []Ability{Inline, Refusals, Keys, Joins},
		Open:    func(dir string) (Queue, error) { return openPostgres(srv, dir) },
		OpenTx:  func(dir string) (TxQueue, error) { return openPostgres(srv, dir) },
		Discard: srv.Drop,
	}
}

// mostOnServer is the largest backlog that a server is asked to hold.
const mostOnServer = 100_000

// postgresQueue is an outbox in a schema of its own.
type postgresQueue struct {
	*outboxQueue
	db *sql.DB
}

func openPostgres(srv *server.Server, dir string) (*postgresQueue, error) {
	db, err := srv.Open(dir)
	if err != nil {
		return nil, err
	}
	store, err := postgres.New(db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &postgresQueue{newOutboxQueue(store), db}, nil
}

// Counts counts the bytes of the server's log.
func (q *postgresQueue) Counts(ctx context.Context) (Counts, error) {
	c, err := q.outboxQueue.Counts(ctx)
	if err == nil {
		c.Bytes, err = server.Written(ctx, q.db)
	}
	return c, err
}

func (q *postgresQueue) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, server.AddRow, payload); err != nil {
		return err
	}
	if _, err := q.Outbox.Enqueue(postgres.WithTx(ctx, tx), eventName, payload); err != nil {
		return err
	}
	return tx.Commit()
}

func (q *postgresQueue) Rows(ctx context.Context) (uint64, error) {
	return server.Count(ctx, q.db, server.CountRows)
}

func (q *postgresQueue) Close() error { return errors.Join(q.outboxQueue.Close(), q.db.Close()) }
