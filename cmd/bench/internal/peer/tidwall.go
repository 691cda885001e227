package peer

import (
	"path/filepath"
	"sync"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/tidwall/wal"
)

// TidwallWAL is a log of files.
var TidwallWAL = subject.Subject{
	Name: "tidwall-wal",
	About: "github.com/tidwall/wal" + version("github.com/tidwall/wal") + ", a log as a queue: DefaultOptions (each write is synced) with AllowEmpty; " +
		"one reader, that truncates the front after 1,000 events",
	Durable: true,
	Most:    slow,
	Open: func(dir string) (subject.Queue, error) {
		options := *wal.DefaultOptions
		options.AllowEmpty = true
		l, err := wal.Open(filepath.Join(dir, "log"), &options)
		if err != nil {
			return nil, err
		}
		return newQueue(&tidwallSequence{log: l}), nil
	},
}

type tidwallSequence struct {
	mu  sync.Mutex // the log wants its indexes in order
	log *wal.Log
}

func (s *tidwallSequence) Append(payloads [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	if len(payloads) == 1 {
		return s.log.Write(last+1, payloads[0])
	}
	var b wal.Batch
	for i, p := range payloads {
		b.Write(last+1+uint64(i), p)
	}
	return s.log.WriteBatch(&b)
}

// bounds returns the first and the last index; first > last if it is empty.
func (s *tidwallSequence) bounds() (first, last uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, err = s.log.FirstIndex(); err == nil {
		last, err = s.log.LastIndex()
	}
	return max(first, 1), last, err
}

func (s *tidwallSequence) Read(from uint64, n int) (items []item, err error) {
	first, last, err := s.bounds()
	for i := max(first, from); err == nil && i <= last && len(items) < n; i++ {
		var b []byte
		if b, err = s.log.Read(i); err == nil {
			items = append(items, item{i, b})
		}
	}
	return items, err
}

func (s *tidwallSequence) Remove(items []item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.TruncateFront(items[len(items)-1].seq + 1)
}

func (s *tidwallSequence) Count() (uint64, error) {
	first, last, err := s.bounds()
	return last + 1 - first, err
}

func (s *tidwallSequence) Close() error { return s.log.Close() }
