package subject

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"time"

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
		db, err := openRows(filepath.Join(dir, "app.db"))
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
	return updateRows(q.db, together, func(tx *bbolt.Tx) error {
		if err := addRow(tx, payload); err != nil {
			return err
		}
		_, err := q.Outbox.Enqueue(outbox.WithTx(ctx, tx), eventName, payload)
		return err
	})
}

func (q *attached) Rows(context.Context) (uint64, error) { return countRows(q.db) }

func (q *attached) Close() error { return errors.Join(q.outboxQueue.Close(), q.db.Close()) }

// rows is the application's bucket.
var rows = []byte("rows")

// openRows opens a database with a bucket of the application's.
func openRows(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(rows)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// updateRows runs f in a transaction: of its own, or together with those of others.
func updateRows(db *bbolt.DB, together bool, f func(tx *bbolt.Tx) error) error {
	if together {
		return db.Batch(f)
	}
	return db.Update(f)
}

// addRow appends a row.
func addRow(tx *bbolt.Tx, row []byte) error {
	b := tx.Bucket(rows)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.Put(binary.BigEndian.AppendUint64(nil, n), row)
}

// countRows counts the rows by what is there, not by the sequence.
func countRows(db *bbolt.DB) (n uint64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(rows).ForEach(func([]byte, []byte) error {
			n++
			return nil
		})
	})
	return n, err
}
