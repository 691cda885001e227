// Orders is a shop in three instances: each writes orders into a table of its own and an event for each, in
// one transaction, and all three deliver what any of them has accepted.
//
//	docker compose up --wait    # in store/postgres
//	GOUTBOX_POSTGRES_DSN='postgres://goutbox:goutbox@localhost:5432/goutbox?sslmode=disable' go run ./examples/orders
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	_ "github.com/jackc/pgx/v5/stdlib"
)

const (
	instances = 3
	each      = 20 // orders of an instance
)

func main() {
	dsn := os.Getenv("GOUTBOX_POSTGRES_DSN")
	if dsn == "" {
		fmt.Fprintln(os.Stderr, "set GOUTBOX_POSTGRES_DSN, see docker-compose.yml")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, dsn, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run has all instances in one process; yours are in one each.
func run(ctx context.Context, dsn string, out io.Writer) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS shop_orders (id bigserial PRIMARY KEY, customer text NOT NULL)`); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var delivered atomic.Int64
	var all sync.WaitGroup
	ended := make(chan error, instances) // room for all
	for n := range instances {
		all.Go(func() {
			ended <- instance(ctx, db, func(_ context.Context, e outbox.Event) error {
				fmt.Fprintf(out, "instance %d delivers %s of %s: %s\n", n, e.Name, e.Key, e.Payload)
				if delivered.Add(1) == instances*each {
					stop()
				}
				return nil
			})
		})
	}
	all.Wait()
	close(ended)
	for err := range ended {
		if err != nil {
			return err
		}
	}
	if n := delivered.Load(); n < instances*each {
		return fmt.Errorf("%d of %d events were delivered: %w", n, instances*each, context.Cause(ctx))
	}
	return nil
}

// instance takes orders and delivers, until ctx ends.
func instance(ctx context.Context, db *sql.DB, p outbox.Publisher) error {
	s, err := postgres.New(db, postgres.WithTable("shop_outbox"))
	if err != nil {
		return err
	}
	ob := outbox.New(s)
	taking := make(chan error, 1)
	go func() { taking <- take(ctx, db, ob) }()
	return errors.Join(ob.Start(ctx, p), <-taking, s.Close())
}

// take takes orders. The event is written if and only if the order is: no order without an
// event, no event without an order.
func take(ctx context.Context, db *sql.DB, ob *outbox.Outbox) error {
	for n := range each {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		customer := fmt.Sprintf("customer %d", n%4)
		var id int64
		err = tx.QueryRowContext(ctx, `INSERT INTO shop_orders (customer) VALUES ($1) RETURNING id`, customer).Scan(&id)
		if err == nil {
			_, err = ob.Enqueue(postgres.WithTx(ctx, tx), "order.created", map[string]int64{"order": id}, outbox.WithKey(customer))
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		ob.Wake() // or the store finds it within half a second
	}
	return nil
}
