package subject

import (
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// rows is the bucket of an application that has a bbolt database.
var rows = []byte("rows")

// OpenRows opens a database with a bucket of the application's.
func OpenRows(path string) (*bbolt.DB, error) {
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

// UpdateRows runs f in a transaction: of its own, or together with those of others.
func UpdateRows(db *bbolt.DB, together bool, f func(tx *bbolt.Tx) error) error {
	if together {
		return db.Batch(f)
	}
	return db.Update(f)
}

// AddRow appends a row.
func AddRow(tx *bbolt.Tx, row []byte) error {
	b := tx.Bucket(rows)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.Put(binary.BigEndian.AppendUint64(nil, n), row)
}

// CountRows counts the rows by what is there, not by the sequence.
func CountRows(db *bbolt.DB) (n uint64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(rows).ForEach(func([]byte, []byte) error {
			n++
			return nil
		})
	})
	return n, err
}
