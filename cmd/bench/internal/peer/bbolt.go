package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"go.etcd.io/bbolt"
)

// Bbolt is the database that store/bolt is built on, alone.
var Bbolt = subject.Subject{
	Name: "bbolt",
	About: "go.etcd.io/bbolt" + version("go.etcd.io/bbolt") + " alone, a bucket as a queue; a lone caller has an Update to itself, others share a Batch (MaxBatchDelay 1 ms, so better than the default of 10 ms); " +
		"one reader, that deletes 1,000 events in a transaction",
	Durable: true,
	Can:     []subject.Ability{subject.Joins},
	Open:    func(dir string) (subject.Queue, error) { return openBbolt(dir) },
	OpenTx:  func(dir string) (subject.TxQueue, error) { return openBbolt(dir) },
}

type bboltQueue struct {
	*queue
	*bboltSequence
}

func (q bboltQueue) Close() error { return q.bboltSequence.Close() }

func openBbolt(dir string) (bboltQueue, error) {
	db, err := subject.OpenRows(filepath.Join(dir, "queue.db"))
	if err != nil {
		return bboltQueue{}, err
	}
	db.MaxBatchDelay = time.Millisecond
	s := &bboltSequence{db: db}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(events)
		if err == nil {
			s.count.Store(int64(b.Stats().KeyN))
		}
		return err
	})
	if err != nil {
		return bboltQueue{}, errors.Join(err, db.Close())
	}
	return bboltQueue{newQueue(s), s}, nil
}

// events is the bucket of what waits.
var events = []byte("events")

type bboltSequence struct {
	db      *bbolt.DB
	callers atomic.Int32
	count   atomic.Int64
}

func (s *bboltSequence) Append(payloads [][]byte) error {
	alone := s.callers.Add(1) == 1
	defer s.callers.Add(-1)
	err := subject.UpdateRows(s.db, !alone && len(payloads) == 1, func(tx *bbolt.Tx) error { return put(tx, payloads) })
	if err == nil {
		s.count.Add(int64(len(payloads)))
	}
	return err
}

func put(tx *bbolt.Tx, payloads [][]byte) error {
	b := tx.Bucket(events)
	b.FillPercent = 1 // keys only ever increase
	for _, p := range payloads {
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		if err := b.Put(key(n), p); err != nil {
			return err
		}
	}
	return nil
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (s *bboltSequence) Read(from uint64, max int) (items []item, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(events).Cursor()
		for k, v := c.Seek(key(from)); k != nil && len(items) < max; k, v = c.Next() {
			items = append(items, item{binary.BigEndian.Uint64(k), append([]byte(nil), v...)})
		}
		return nil
	})
	return items, err
}

func (s *bboltSequence) Remove(items []item) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(events)
		for _, it := range items {
			if err := b.Delete(key(it.seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.count.Add(-int64(len(items)))
	}
	return err
}

func (s *bboltSequence) Count() (uint64, error) { return uint64(max(s.count.Load(), 0)), nil }

func (s *bboltSequence) Close() error { return s.db.Close() }

func (q bboltQueue) EnqueueTx(_ context.Context, payload []byte, together bool) error {
	err := subject.UpdateRows(q.db, together, func(tx *bbolt.Tx) error {
		if err := subject.AddRow(tx, payload); err != nil {
			return err
		}
		return put(tx, [][]byte{payload})
	})
	if err == nil {
		q.count.Add(1)
		q.notify()
	}
	return err
}

func (q bboltQueue) Rows(context.Context) (uint64, error) { return subject.CountRows(q.db) }
