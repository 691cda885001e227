package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// held is a store whose leaders are stopped when they have taken those who wait.
type held struct {
	s       *postgres.Store
	stopped atomic.Int64
	gate    chan struct{} // lets one of them go; closed: all
	first   []*creating   // one for each leader, on its way
}

// creating is a call of Create in a goroutine of its own.
type creating struct {
	tasks []outbox.Task
	err   chan error
}

// hold stops a store when each leader has a call on its way.
func hold(t *testing.T, s *postgres.Store) *held {
	t.Helper()
	h := &held{s: s, gate: make(chan struct{})}
	t.Cleanup(sync.OnceFunc(func() { // or a test that fails would wait for them
		if h.first != nil {
			close(h.gate)
		}
	}))
	s.SetTaken(func() {
		h.stopped.Add(1)
		<-h.gate
		h.stopped.Add(-1)
	})
	for n := range postgres.MaxLeaders {
		h.first = append(h.first, h.create(t.Context(), event("first")))
		h.sent(t, n+1)
	}
	return h
}

func newHeld(t *testing.T, driver string) *held {
	t.Helper()
	s, _, _ := newStore(t, driver)
	return hold(t, s)
}

// sent returns when so many groups are on their way, and nobody waits.
func (h *held) sent(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		waiting, leading := h.s.Waiting()
		return waiting == 0 && leading == n && h.stopped.Load() == int64(n)
	}, soon, tick)
}

func (h *held) create(ctx context.Context, tasks ...outbox.Task) *creating {
	c := &creating{tasks: tasks, err: make(chan error, 1)}
	go func() { c.err <- h.s.Create(ctx, c.tasks) }()
	return c
}

// queue has somebody create who waits, and returns when it waits as the n-th.
func (h *held) queue(t *testing.T, ctx context.Context, n int, tasks ...outbox.Task) *creating {
	t.Helper()
	c := h.create(ctx, tasks...)
	require.Eventually(t, func() bool { waiting, _ := h.s.Waiting(); return waiting == n }, soon, tick)
	return c
}

// next lets those on their way through, and stops those who wait when they are on theirs.
func (h *held) next(t *testing.T) {
	t.Helper()
	for _, c := range h.first {
		h.gate <- struct{}{}
		require.NoError(t, <-c.err)
	}
	h.first = []*creating{}
	h.sent(t, 1)
}

// release lets everybody through, and returns what is there but for the first ones, in the order of the IDs.
func (h *held) release(t *testing.T) []outbox.Task {
	t.Helper()
	close(h.gate)
	for _, c := range h.first {
		require.NoError(t, <-c.err)
	}
	h.first = nil
	require.Eventually(t, func() bool { waiting, leading := h.s.Waiting(); return waiting+leading == 0 }, soon, tick)
	return slices.DeleteFunc(list(t, h.s), func(task outbox.Task) bool { return task.Name == "first" })
}

func bits(id outbox.ID) uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Who waits goes with the others, in one statement, in the order of the calls, and each gets what is its own.
func TestGroup_Together(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		h := newHeld(t, driver)
		with := func(name string, f func(*outbox.Task)) outbox.Task {
			return event(name, func(task *outbox.Task) {
				task.Headers, task.MaxAttempts = map[string]string{"h": name}, len(name)
				if f != nil {
					f(task)
				}
			})
		}
		given := [][]outbox.Task{
			{with("a", nil)}, {with("bb", func(task *outbox.Task) { task.Payload = nil }), with("ccc", nil), with("", nil)},
			{with("dddd", func(task *outbox.Task) { task.Delay, task.TTL = time.Hour, 2*time.Hour })},
			{with("eeeee", func(task *outbox.Task) { task.Lease, task.Priority = aWhile, outbox.High })},
			{with("f", func(task *outbox.Task) {
				task.Lease, task.Delay, task.RetryBase, task.RetryMax = aWhile, time.Hour, 3, 4
			})},
		}
		var calls []*creating
		for i, tasks := range given {
			calls = append(calls, h.queue(t, t.Context(), i+1, tasks...))
		}
		all := h.release(t)
		var last outbox.ID
		for _, c := range calls {
			require.NoError(t, <-c.err)
			for _, task := range c.tasks {
				require.Equal(t, bits(calls[0].tasks[0].ID), bits(task.ID), "not in the same statement")
				require.Positive(t, task.ID.Compare(last))
				last = task.ID
				there := all[0]
				all = all[1:]
				task.Delay, task.TTL, task.Lease, there.Token = 0, 0, 0, task.Token
				task.Payload, there.Payload = append([]byte{}, task.Payload...), append([]byte{}, there.Payload...)
				require.Equal(t, task, there)
			}
		}
		require.Empty(t, all)
		done := calls[3].tasks[0]
		require.Equal(t, outbox.InFlight, done.State)
		require.Equal(t, outbox.Waiting, calls[4].tasks[0].State, "it is not due yet")
		require.NoError(t, settle(t, h.s, outbox.Done, done))
		require.Len(t, claim(t, h.s, 100, aWhile), postgres.MaxLeaders+4)
	})
}

// One who is refused fails alone, with all of its events (all or none), and knows why.
func TestGroup_OwnErrors(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		h := newHeld(t, driver)
		odd := func(task *outbox.Task) { task.MaxAttempts = 1 << 40 } // more than the column takes
		var calls []*creating
		for n := range 6 {
			tasks := []outbox.Task{event(fmt.Sprint(n)), event(fmt.Sprint(n)), event(fmt.Sprint(n))}
			if n == 1 || n == 4 {
				odd(&tasks[n%3])
			}
			calls = append(calls, h.queue(t, t.Context(), n+1, tasks...))
		}
		h.release(t)
		for n, c := range calls {
			if err := <-c.err; n == 1 || n == 4 {
				require.ErrorContains(t, err, "out of range")
				require.True(t, c.tasks[0].ID.IsZero())
			} else {
				require.NoError(t, err)
			}
		}
		there := map[string]int{}
		for _, task := range list(t, h.s) {
			there[task.Name]++
		}
		require.Equal(t, map[string]int{"first": postgres.MaxLeaders, "0": 3, "2": 3, "3": 3, "5": 3}, there)
	})
}
