package outbox_test

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"iter"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// backlog is a store that is quick with a hundred thousand waiting tasks, where
// store/mem is not, and knows no keys. It counts what it is told.
type backlog struct {
	mu       sync.Mutex
	now      func() time.Time
	waiting  dueOrder
	inFlight map[uint64]*outbox.Task // by token
	last     uint64
	verdicts map[outbox.Verdict]int
	claims   int
	dead     []outbox.Task
}

func newBacklog() *backlog {
	return &backlog{now: time.Now, inFlight: map[uint64]*outbox.Task{}, verdicts: map[outbox.Verdict]int{}}
}

// dueOrder is a heap of tasks.
type dueOrder []*outbox.Task

func (h dueOrder) Len() int      { return len(h) }
func (h dueOrder) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h dueOrder) Less(i, j int) bool {
	return cmp.Or(h[i].DueAt.Compare(h[j].DueAt), h[i].ID.Compare(h[j].ID)) < 0
}
func (h *dueOrder) Push(x any) { *h = append(*h, x.(*outbox.Task)) }
func (h *dueOrder) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}

func (s *backlog) Create(_ context.Context, tasks []outbox.Task) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range tasks {
		t := tasks[i]
		s.last++
		binary.BigEndian.PutUint64(t.ID[8:], s.last)
		t.DueAt = s.now().Add(t.Delay)
		heap.Push(&s.waiting, &t)
		tasks[i] = t
	}
	return nil
}

func (s *backlog) Claim(_ context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims++
	var c outbox.Claimed
	now := s.now()
	for len(s.waiting) > 0 && len(c.Tasks) < req.Max && !s.waiting[0].DueAt.After(now) {
		t := heap.Pop(&s.waiting).(*outbox.Task)
		s.last++
		t.Token, t.Attempt, t.State = s.last, t.Attempts+1, outbox.InFlight
		s.inFlight[t.Token] = t
		c.Tasks = append(c.Tasks, *t)
	}
	c.NextIn = outbox.Forever
	if len(s.waiting) > 0 {
		c.NextIn = max(s.waiting[0].DueAt.Sub(now), 0)
	}
	return c, nil
}

func (s *backlog) Settle(_ context.Context, outs []outbox.Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range outs {
		t := s.inFlight[o.Token]
		if t == nil {
			return outbox.ErrLeaseLost
		}
		delete(s.inFlight, o.Token)
		s.verdicts[o.Verdict]++
		switch o.Verdict {
		case outbox.Retry:
			t.Attempts++
			fallthrough
		case outbox.Release:
			t.DueAt = s.now().Add(o.Delay)
			heap.Push(&s.waiting, t)
		case outbox.Bury:
			if o.Spends() {
				t.Attempts++
			}
			s.dead = append(s.dead, *t)
		}
	}
	return nil
}

func (s *backlog) Stats(context.Context) (outbox.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return outbox.Stats{
		Pending: uint64(len(s.waiting)), InFlight: uint64(len(s.inFlight)),
		Dead: uint64(len(s.dead)), Delivered: uint64(s.verdicts[outbox.Done]),
	}, nil
}

// Tasks lists what waits, in no order.
func (s *backlog) Tasks(context.Context, outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		for _, t := range s.waiting {
			if !yield(*t, nil) {
				return
			}
		}
	}
}
func (s *backlog) Requeue(context.Context, ...outbox.ID) (int, error) { return 0, nil }
func (s *backlog) Delete(context.Context, ...outbox.ID) (int, error)  { return 0, nil }
func (s *backlog) Close() error                                       { return nil }
