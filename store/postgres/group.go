package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// How lean events are accepted: whoever calls while others are on their way to the server waits for those
// who are back next, and goes with all who wait, in one statement and one commit.
//
//	join   puts a call into the queue, and starts a leader if there are fewer than leaders.
//	lead   takes a connection, then all who wait, has them accepted, and goes on until nobody waits.
//
// A lone caller waits for nobody: its leader starts at once. A leader is a goroutine, so that each caller can leave
// when its context ends and nobody depends on that of another. While it waits for a connection, callers can still
// withdraw; once their events are on the way they can only stop waiting.

// maxLeaders is how many groups are on their way at once.
const maxLeaders = 2

// lateTime is how long a caller whose context has ended waits on for an answer that is on its way.
const lateTime = time.Second

// call is one Create on its way.
type call struct {
	*lean
	carrier context.Context // for what it carries, not for its end
	done    chan struct{}   // closed once what follows is set
	fate    fate
	given   given
	place   int // among those who went together
	err     error
}

// queue is where calls wait for a leader.
type queue struct {
	mu      sync.Mutex // guards what follows; never held while anybody waits
	waiting []*call
	leaders int
	free    []*slot
	slots   []*slot
	closed  bool

	late    time.Duration
	taken   func()          // is called by a leader that has taken calls; nil but in tests
	ctx     context.Context // ends when the store is closed: for those who wait for a connection
	cancel  context.CancelFunc
	end     context.Context // ends when Close has waited long enough
	giveUp  context.CancelFunc
	leading sync.WaitGroup // leaders; Close waits for them
}

func (q *queue) init() {
	q.late = lateTime
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.end, q.giveUp = context.WithCancel(context.Background())
}

// createLean is Create for lean events. Nothing was done if it reports refused, and there is no error.
func (s *Store) createLean(ctx context.Context, b *batch, l *lean) (fate, error) {
	c := &call{lean: l, carrier: context.WithoutCancel(ctx), done: make(chan struct{})}
	if !s.join(c) {
		return shut, outbox.ErrClosed
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if s.queue.withdraw(c) {
			return refused, fmt.Errorf("postgres: create: nothing done: %w", ctx.Err())
		}
		timer := time.NewTimer(s.queue.late)
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C:
			return doubtful, fmt.Errorf("postgres: create: %w: %w", outbox.ErrOutcomeUnknown, ctx.Err())
		}
	}
	switch c.fate {
	case accepted:
		l.made(b, c.given, c.place)
	case doubtful:
		return doubtful, fmt.Errorf("postgres: create: %w: %w", outbox.ErrOutcomeUnknown, c.err)
	case shut:
		return shut, outbox.ErrClosed
	}
	return c.fate, nil
}

// join has a call wait for a leader; it reports false if the store is closed.
func (s *Store) join(c *call) bool {
	q := &s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.waiting = append(q.waiting, c)
	if q.leaders < maxLeaders {
		sl := &slot{}
		if n := len(q.free); n > 0 {
			sl, q.free = q.free[n-1], q.free[:n-1]
		} else {
			q.slots = append(q.slots, sl)
		}
		q.leaders++
		q.leading.Go(func() { s.lead(sl) }) // ends when nobody waits
	}
	return true
}

// withdraw takes a call back; it reports false if it is on its way.
func (q *queue) withdraw(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == c {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead leads until nobody waits.
func (s *Store) lead(sl *slot) {
	for {
		conn, err := s.db.Conn(s.queue.ctx)
		group := s.queue.take(sl)
		if s.queue.taken != nil && len(group) > 0 {
			s.queue.taken()
		}
		if len(group) > 0 && err == nil {
			s.acceptAll(group, conn, sl)
		}
		if err == nil {
			_ = conn.Close() // it goes back to the pool
		}
		for _, c := range group {
			close(c.done)
		}
		if len(group) == 0 {
			return
		}
	}
}

// take takes those who wait, as many as may go together. If there are none, the leader is none any more.
func (q *queue) take(sl *slot) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, size, n := 0, 0, 0
	for _, c := range q.waiting {
		events, size = events+len(c.sizes), size+len(c.blob)
		if n > 0 && (events > groupEvents || size > groupBytes) {
			break
		}
		n++
	}
	if n == 0 {
		q.leaders--
		q.free = append(q.free, sl)
		return nil
	}
	group := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return group
}

// acceptAll has calls accepted together, all or none, and sets what became of them.
func (s *Store) acceptAll(group []*call, conn *sql.Conn, sl *slot) {
	all := group[0].lean
	if len(group) > 1 {
		all = &lean{}
		for _, c := range group {
			c.place = len(all.sizes)
			all.join(c.lean)
		}
	}
	ctx, cancel := s.queue.patient(group[0].carrier)
	fate, given, err := s.accept(ctx, conn, sl, all)
	cancel()
	if fate == doubtful {
		discard(conn) // there may be no other
		ctx, cancel = s.queue.patient(group[0].carrier)
		fate, given = s.doubt(ctx, sl, all)
		cancel()
	}
	for _, c := range group {
		c.fate, c.given, c.err = fate, given, err
	}
}

// patient bounds what a group waits for.
func (q *queue) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	stop := context.AfterFunc(q.end, cancel)
	return ctx, func() { stop(); cancel() }
}

// close refuses those who wait, and returns when the others know what became of them.
func (q *queue) close() []*slot {
	q.mu.Lock()
	q.closed = true
	for _, c := range q.waiting {
		c.fate = shut
		close(c.done)
	}
	q.waiting = nil
	q.mu.Unlock()
	q.cancel()
	defer time.AfterFunc(openTime, q.giveUp).Stop()
	q.leading.Wait()
	q.giveUp()
	return q.slots
}
