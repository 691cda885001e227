package peer

import (
	"errors"
	"sync"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// RaftWAL is the log of a replicated store.
var RaftWAL = subject.Subject{
	Name: "raft-wal",
	About: "github.com/hashicorp/raft-wal" + version("github.com/hashicorp/raft-wal") + ", a log as a queue, with its defaults (each StoreLogs is synced, segments of 64 MiB); " +
		"one reader, that deletes from the front after 1,000 events",
	Durable: true,
	Open: func(dir string) (subject.Queue, error) {
		meta := new(metadb.BoltMetaDB) // its own, but Close would leave it open
		l, err := raftwal.Open(dir, raftwal.WithLogger(hclog.NewNullLogger()), raftwal.WithMetaStore(meta))
		if err != nil {
			return nil, err
		}
		s := &raftSequence{log: l, meta: meta}
		if s.first, err = l.FirstIndex(); err == nil {
			s.last, err = l.LastIndex()
		}
		s.first = max(s.first, 1)
		return newQueue(s), err
	},
}

type raftSequence struct {
	log  *raftwal.WAL
	meta *metadb.BoltMetaDB

	mu          sync.Mutex // the log wants its indexes in order
	first, last uint64     // first > last: it is empty
}

func (s *raftSequence) Append(payloads [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	logs := make([]*raft.Log, len(payloads))
	for i, p := range payloads {
		logs[i] = &raft.Log{Index: s.last + 1 + uint64(i), Data: p}
	}
	if err := s.log.StoreLogs(logs); err != nil {
		return err
	}
	s.last += uint64(len(logs))
	return nil
}

func (s *raftSequence) bounds() (first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, s.last
}

func (s *raftSequence) Read(from uint64, n int) (items []item, err error) {
	first, last := s.bounds()
	for i := max(first, from); i <= last && len(items) < n; i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); err != nil {
			return nil, err
		}
		items = append(items, item{i, l.Data})
	}
	return items, nil
}

func (s *raftSequence) Remove(items []item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := items[len(items)-1].seq
	if err := s.log.DeleteRange(s.first, last); err != nil {
		return err
	}
	s.first = last + 1
	return nil
}

func (s *raftSequence) Count() (uint64, error) {
	first, last := s.bounds()
	return last + 1 - first, nil
}

func (s *raftSequence) Close() error { return errors.Join(s.log.Close(), s.meta.Close()) }
