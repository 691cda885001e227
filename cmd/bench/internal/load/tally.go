package load

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Tally notes which events have been seen: found in a store, or delivered by it.
// It is safe for concurrent use.
type Tally struct {
	source *Source
	seen   []seen // by producer
	total  atomic.Uint64
	extra  atomic.Uint64 // seen more than once

	mu  sync.Mutex // guards bad
	bad error      // the first payload that was not ours, or not whole
}

// seen is a set of sequence numbers.
type seen struct {
	mu    sync.Mutex
	words []uint64
	_     [32]byte // keeps neighbours off one cache line
}

// NewTally returns an empty tally for so many producers.
func NewTally(source *Source, producers int) *Tally {
	return &Tally{source: source, seen: make([]seen, producers)}
}

// Expect makes room for so many events of a producer, so that the tally does not grow
// while memory is being measured.
func (t *Tally) Expect(producer int, events uint64) {
	t.seen[producer].words = make([]uint64, events/64+1)
}

// See notes one payload, and returns what it says of itself.
func (t *Tally) See(payload []byte) (Mark, bool) {
	m, err := t.source.Read(payload)
	if err == nil && m.Producer >= len(t.seen) {
		err = fmt.Errorf("an event of producer %d, who does not exist", m.Producer)
	}
	if err != nil {
		t.mu.Lock()
		t.bad = cmp.Or(t.bad, err)
		t.mu.Unlock()
		return m, false
	}
	if !t.seen[m.Producer].add(m.Seq) {
		t.extra.Add(1)
		return m, false
	}
	t.total.Add(1)
	return m, true
}

// Total is how many different events have been seen.
func (t *Tally) Total() uint64 { return t.total.Load() }

// Extra is how many were seen again.
func (t *Tally) Extra() uint64 { return t.extra.Load() }

func (s *seen) add(seq uint64) (fresh bool) {
	word, bit := seq/64, uint64(1)<<(seq%64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := uint64(len(s.words)); word >= n {
		s.words = append(s.words, make([]uint64, max(word-n+1, n, 16))...)
	}
	fresh = s.words[word]&bit == 0
	s.words[word] |= bit
	return fresh
}

// count returns how many numbers below n are in the set, and how many are at all.
func (s *seen) count(n uint64) (below, all uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.words {
		all += uint64(bits.OnesCount64(w))
		first := uint64(i) * 64
		switch {
		case n >= first+64:
			below += uint64(bits.OnesCount64(w))
		case n > first:
			below += uint64(bits.OnesCount64(w & (1<<(n-first) - 1)))
		}
	}
	return below, all
}

// Check returns an error unless exactly the acknowledged events were seen, each
// once: the first acked[p] of producer p.
func (t *Tally) Check(acked []uint64) error {
	t.mu.Lock()
	err := t.bad
	t.mu.Unlock()
	var missing, unknown uint64
	for p, n := range acked {
		below, all := t.seen[p].count(n)
		missing += n - below
		unknown += all - below
	}
	if missing > 0 {
		err = errors.Join(err, fmt.Errorf("%d acknowledged events are missing", missing))
	}
	if unknown > 0 {
		err = errors.Join(err, fmt.Errorf("%d events are there that nobody sent", unknown))
	}
	if n := t.Extra(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d events are there twice", n))
	}
	return err
}
