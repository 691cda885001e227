package subject

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"go.etcd.io/bbolt"
)

// Bolt is store/bolt with default options.
var Bolt = Subject{
	Name:    "bolt",
	About:   "goutbox store/bolt, default options: a synced log in front of a bbolt database; in tx attached to a database of the application's",
	Durable: true,
	Can:     append([]Ability{Joins}, outboxCan...),
	Open: func(dir string) (Queue, error) {
		store, err := bolt.Open(dir, bolt.WithLogger(logger))
		if err != nil {
			return nil, err
		}
		return newOutboxQueue(store), nil
	},
	OpenTx: func(dir string) (TxQueue, error) {
		db, err := OpenRows(filepath.Join(dir, "app.db"))
		if err != nil {
			return nil, err
		}
		store, err := bolt.Attach(db, filepath.Join(dir, "outbox"), bolt.WithLogger(logger))
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return &attached{newOutboxQueue(store), db}, nil
	},
}

// attached is an outbox in the application's database.
type attached struct {
	*outboxQueue
	db *bbolt.DB
}

func (q *attached) EnqueueTx(ctx context.Context, payload []byte, together bool) error {
	return UpdateRows(q.db, together, func(tx *bbolt.Tx) error {
		if err := AddRow(tx, payload); err != nil {
			return err
		}
		_, err := q.Outbox.Enqueue(outbox.WithTx(ctx, tx), eventName, payload)
		return err
	})
}

func (q *attached) Rows(context.Context) (uint64, error) { return CountRows(q.db) }

func (q *attached) Close() error { return errors.Join(q.outboxQueue.Close(), q.db.Close()) }
