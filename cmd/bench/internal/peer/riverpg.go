package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/server"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// RiverPostgres is River where it is at home, on a server that -dsn names.
var RiverPostgres = subject.Subject{Name: "river-postgres", On: onRiver}

// fetchingPostgres are the settings of the project's own benchmark (cmd/river/riverbench).
var fetchingPostgres = fetching{workers: 2000, cooldown: 2 * time.Millisecond, poll: 20 * time.Millisecond}

func onRiver(srv *server.Server) subject.Subject {
	return subject.Subject{
		Name: "river-postgres",
		About: fmt.Sprintf("github.com/riverqueue/river%s with riverpgxv5, %s, which are those of its own benchmark (defaults: 100 ms and 1 s), up to %d connections; "+
			"payloads go through JSON, as it does with all", version("github.com/riverqueue/river"), fetchingPostgres, srv.Conns),
		Durable: true, Elsewhere: true,
		Most:    100_000,
		Can:     []subject.Ability{subject.Joins, subject.Refusals},
		Open:    func(dir string) (subject.Queue, error) { return openRiverPostgres(srv, dir) },
		OpenTx:  func(dir string) (subject.TxQueue, error) { return openRiverPostgres(srv, dir) },
		Discard: srv.Drop,
	}
}

type riverPostgres struct {
	*riverQueue[pgx.Tx]
	pool *pgxpool.Pool
}

func openRiverPostgres(srv *server.Server, dir string) (*riverPostgres, error) {
	ctx := context.Background()
	conn, err := srv.Schema(dir)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(conn.ConnString())
	if err != nil {
		return nil, err
	}
	config.ConnConfig, config.MaxConns = conn, int32(srv.Conns)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	q := &riverPostgres{&riverQueue[pgx.Tx]{
		db:       stdlib.OpenDBFromPool(pool),
		driver:   func() riverdriver.Driver[pgx.Tx] { return riverpgxv5.New(pool) },
		fetching: fetchingPostgres,
		payload:  "args::text",
	}, pool}
	if err = server.MakeRows(ctx, q.db); err == nil {
		err = q.prepare()
	}
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

func (q *riverPostgres) EnqueueTx(ctx context.Context, payload []byte, _ bool) error {
	return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, server.AddRow, payload); err != nil {
			return err
		}
		_, err := q.client.InsertTx(ctx, tx, riverArgs{payload}, nil)
		return err
	})
}

// Drain counts on the server only when all has been published: counting so many rows every
// other millisecond would cost more than delivering them.
func (q *riverPostgres) Drain(ctx context.Context, publish func([]byte)) error {
	counts, err := q.Counts(ctx)
	if err != nil {
		return err
	}
	var done atomic.Uint64
	return until(ctx, q, func(payload []byte) {
		publish(payload)
		done.Add(1)
	}, func(ctx context.Context) (bool, error) {
		if done.Load() < counts.Waiting {
			return false, nil
		}
		now, err := q.Counts(ctx)
		return now.Waiting == 0, err
	})
}

// Counts counts the bytes of the server's log.
func (q *riverPostgres) Counts(ctx context.Context) (subject.Counts, error) {
	c, err := q.riverQueue.Counts(ctx)
	if err == nil {
		c.Bytes, err = server.Written(ctx, q.db)
	}
	return c, err
}

func (q *riverPostgres) Close() error {
	err := q.riverQueue.Close()
	q.pool.Close()
	return err
}
