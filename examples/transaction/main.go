// Transaction keeps a shop's orders and the events about them in step: both are
// written in one transaction, so there is no order without its event and no event
// without its order, whatever fails and whenever the program is killed.
//
//	go run ./examples/transaction
//
// This file is the part to copy: placeOrder for the idea, openShop for a program
// that has a bbolt database already, openSmallShop for one that has none. The file
// play.go places some orders and checks what became of them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"go.etcd.io/bbolt"
)

// order is what a customer wants.
type order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Item     string `json:"item"`
	Count    int    `json:"count"`
}

// errOutOfStock is returned when the shop has not enough of an item.
var errOutOfStock = errors.New("out of stock")

// placeOrder books an order, or changes nothing and tells nobody.
func (s *shop) placeOrder(ctx context.Context, o order) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		if err := put(tx, "orders", o.ID, o); err != nil {
			return err
		}
		// With the transaction in its context, Enqueue writes the event as a part of
		// it. Nothing is published before the commit, and after it everything is.
		_, err := s.outbox.Enqueue(bolt.WithTx(ctx, tx), "order.placed", o, outbox.WithKey(o.Customer))
		if err != nil {
			return err
		}
		return takeFromStock(tx, o) // an error here takes back the order and the event
	})
}

// shop is the application: its data, and an outbox in the same database.
type shop struct {
	outbox *outbox.Outbox
	update func(ctx context.Context, f func(tx *bbolt.Tx) error) error
	close  func() error
}

// openShop opens a shop that has a database of its own, as bbolt programs do. The
// outbox moves in, with one bucket in the database and a folder for its log.
func openShop(dir string) (*shop, error) {
	db, err := bbolt.Open(filepath.Join(dir, "shop.db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	store, err := bolt.Attach(db, filepath.Join(dir, "outbox"))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &shop{
		outbox: outbox.New(store),
		update: func(_ context.Context, f func(tx *bbolt.Tx) error) error { return db.Update(f) },
		close:  func() error { return errors.Join(store.Close(), db.Close()) }, // in this order
	}, nil
}

// openSmallShop does the same with less: the outbox owns the database, and the
// shop's data are guests in it, in buckets of their own.
func openSmallShop(dir string) (*shop, error) {
	store, err := bolt.Open(dir)
	if err != nil {
		return nil, err
	}
	return &shop{outbox: outbox.New(store), update: store.Update, close: store.Close}, nil
}

// takeFromStock refuses an order that the stock does not cover.
func takeFromStock(tx *bbolt.Tx, o order) error {
	var left int
	if err := get(tx, "stock", o.Item, &left); err != nil {
		return err
	}
	if left < o.Count {
		return fmt.Errorf("%w: %d of %s wanted, %d left", errOutOfStock, o.Count, o.Item, left)
	}
	return put(tx, "stock", o.Item, left-o.Count)
}

// put writes a value as JSON.
func put(tx *bbolt.Tx, bucket, key string, value any) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), data)
}

// get reads a value; one that is not there leaves it as it is.
func get(tx *bbolt.Tx, bucket, key string, value any) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	data := b.Get([]byte(key))
	if data == nil {
		return nil
	}
	return json.Unmarshal(data, value)
}
