package peer

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Badger is a key-value store with a log-structured merge tree.
var Badger = subject.Subject{
	Name: "badger",
	About: "github.com/dgraph-io/badger/v4" + version("github.com/dgraph-io/badger/v4") + ", a map as a queue: DefaultOptions with SyncWrites, value log of 64 MiB; a transaction for each call; " +
		"one reader, that deletes 1,000 events in a transaction",
	Durable: true,
	Most:    200_000,
	Open: func(dir string) (subject.Queue, error) {
		db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithValueLogFileSize(64 << 20).WithLogger(nil))
		if err != nil {
			return nil, err
		}
		s := &badgerSequence{db: db}
		return newQueue(s), s.load()
	},
}

type badgerSequence struct {
	db    *badger.DB
	last  atomic.Uint64
	count atomic.Int64
}

// load counts what is there.
func (s *badgerSequence) load() error {
	return s.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			s.last.Store(binary.BigEndian.Uint64(it.Item().Key()))
			s.count.Add(1)
		}
		return nil
	})
}

func (s *badgerSequence) Append(payloads [][]byte) error {
	first := s.last.Add(uint64(len(payloads))) - uint64(len(payloads)) + 1
	err := s.db.Update(func(tx *badger.Txn) error {
		for i, p := range payloads {
			if err := tx.Set(key(first+uint64(i)), p); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.count.Add(int64(len(payloads)))
	}
	return err
}

func (s *badgerSequence) Read(from uint64, max int) (items []item, err error) {
	err = s.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Seek(key(from)); it.Valid() && len(items) < max; it.Next() {
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			items = append(items, item{binary.BigEndian.Uint64(it.Item().Key()), v})
		}
		return nil
	})
	return items, err
}

func (s *badgerSequence) Remove(items []item) error {
	err := s.db.Update(func(tx *badger.Txn) error {
		for _, it := range items {
			if err := tx.Delete(key(it.seq)); err != nil {
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

func (s *badgerSequence) Count() (uint64, error) { return uint64(max(s.count.Load(), 0)), nil }

func (s *badgerSequence) Close() error { return s.db.Close() }
