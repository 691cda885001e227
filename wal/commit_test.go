package wal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// gate holds up the syncs of a disk until it is opened. Used in a synctest bubble, where Wait returns when the leader
// stands at the gate and everybody else waits for the round.
type gate struct {
	shut atomic.Bool
	pass chan error
}

func newGate(disk *waltest.FS) *gate {
	g := &gate{pass: make(chan error)}
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind != waltest.Sync || !g.shut.Load() {
			return nil
		}
		if err := <-g.pass; err != nil {
			return &waltest.Fault{Err: err, Drop: true}
		}
		return nil
	})
	return g
}

// open lets everything pass.
func (g *gate) open() {
	g.shut.Store(false)
	g.pass <- nil
}

// waiter is an Append in a goroutine of its own.
type waiter struct {
	pos  wal.Position
	err  error
	done chan struct{}
}

func start(ctx context.Context, l *wal.Log, records ...[]byte) *waiter {
	w := &waiter{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.pos, w.err = l.Append(ctx, records...)
	}()
	synctest.Wait()
	return w
}

func (w *waiter) outcome() error {
	<-w.done
	return w.err
}

// bubble runs a test with a log, a leader that writes record 1 and stands at the gate, and nobody else.
func bubble(t *testing.T, opts wal.Options, f func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter)) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		g := newGate(disk)
		opts.FS, opts.SegmentBytes = disk, segmentBytes
		l := openWith(t, opts)
		appendAll(t, l, text(1))
		g.shut.Store(true)
		leader := start(ctx, l, text(2))
		f(t, l, disk, g, leader)
		require.NoError(t, leader.outcome())
		require.NoError(t, l.Close())
	})
}

func TestCommit_GroupsWhoCome(t *testing.T) {
	bubble(t, wal.Options{}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
		var waiters []*waiter
		for i := range 50 {
			waiters = append(waiters, start(ctx, l, text(i)))
		}
		g.pass <- nil
		synctest.Wait()
		require.NoError(t, leader.outcome(), "the leader does not stay for the others")
		require.EqualValues(t, 2, l.Durable())
		g.open()
		for i, w := range waiters {
			require.NoError(t, w.outcome())
			require.EqualValues(t, i+3, w.pos)
		}
		require.EqualValues(t, 50, l.Stats().LastRecords, "one sync for all")
	})
}

// OnSync tells of the syncs that Stats counts, with no lock held.
func TestCommit_OnSync(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		var l *wal.Log
		var syncs, records uint64
		opts := wal.Options{FS: waltest.New(), Lazy: lazy}
		opts.OnSync = func(n uint64, took time.Duration) {
			require.Positive(t, took)
			require.EqualValues(t, n, l.Stats().LastRecords)
			syncs, records = syncs+1, records+n
		}
		l = openWith(t, opts)
		appendAll(t, l, texts(1, 5)...)
		require.NoError(t, l.Sync(ctx))
		appendAll(t, l, text(6))
		require.NoError(t, l.Sync(ctx))
		require.Equal(t, l.Stats().Syncs, syncs)
		require.EqualValues(t, 6, records)
		if lazy {
			require.EqualValues(t, 2, syncs)
		}
	}
}

func TestCommit_CancelledWhileWaiting(t *testing.T) {
	bubble(t, wal.Options{}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
		waiting, cancel := context.WithCancel(ctx)
		first, second := start(waiting, l, text(3)), start(waiting, l, text(4))
		queued, err := l.Queue(text(5))
		require.NoError(t, err)
		third := make(chan error)
		go func() { third <- l.Wait(waiting, queued) }()
		synctest.Wait()

		cancel()
		for _, err := range []error{first.outcome(), second.outcome(), <-third} {
			require.ErrorIs(t, err, wal.ErrUnknown)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, "unknown")
		}
		require.EqualValues(t, 3, first.pos, "it has its place all the same")
		g.open()
		require.NoError(t, leader.outcome())
		require.EqualValues(t, 5, l.Durable(), "the leader does not leave what they left behind")
	})
}

// TestCommit_CancelledInWrittenRound: one who waits for the round that is being written, not for the next.
func TestCommit_CancelledInWrittenRound(t *testing.T) {
	bubble(t, wal.Options{}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
		waiting, cancel := context.WithCancel(ctx)
		result := make(chan error)
		go func() { result <- l.Wait(waiting, 2) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-result, wal.ErrUnknown)
		g.open()
	})
}

func TestCommit_SomeCancelled(t *testing.T) {
	bubble(t, wal.Options{}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
		waiting, cancel := context.WithCancel(ctx)
		leaves, stays := start(waiting, l, text(3)), start(ctx, l, text(4))
		cancel()
		require.ErrorIs(t, leaves.outcome(), wal.ErrUnknown)
		g.open()
		require.NoError(t, stays.outcome())
	})
}

// TestCommit_CancelledAtHandOver ends the context of the only waiter at the moment when it is handed the lead. Either it
// sees the end first and leaves, or it finds that it is to lead (I2); nobody is ever left waiting.
func TestCommit_CancelledAtHandOver(t *testing.T) {
	var led, left int
	for range 100 {
		waiting, cancel := context.WithCancel(ctx)
		bubble(t, wal.Options{OnDurable: func(p wal.Position) {
			if p == 2 {
				cancel()
			}
		}}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
			w := start(waiting, l, text(3))
			g.open()
			if err := w.outcome(); err == nil {
				require.EqualValues(t, 3, l.Durable())
				led++
			} else {
				require.ErrorIs(t, err, wal.ErrUnknown)
				left++
			}
			require.NoError(t, leader.outcome())
			synctest.Wait()
			require.EqualValues(t, 3, l.Durable(), "somebody must have written it")
		})
	}
	t.Logf("led %d times, left %d times", led, left)
}

// TestCommit_OnDurableComesFirst: also for who asks while the callback is at work.
func TestCommit_OnDurableComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass := make(chan struct{})
		opts := options(waltest.New())
		opts.OnDurable = func(wal.Position) { <-pass }
		l := openWith(t, opts)
		leader := start(ctx, l, text(1))
		require.EqualValues(t, 1, l.Durable())
		waited := make(chan error, 1)
		go func() { waited <- l.Wait(ctx, 1) }()
		synctest.Wait()
		require.Empty(t, waited)
		close(pass)
		require.NoError(t, <-waited)
		require.NoError(t, leader.outcome())
		require.NoError(t, l.Close())
	})
}

func TestCommit_PoisonReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		g := newGate(disk)
		failed := wal.Position(0)
		opts := options(disk)
		opts.OnFailed = func(from wal.Position, err error) { failed = from }
		l := openWith(t, opts)
		appendAll(t, l, text(1))
		g.shut.Store(true)
		waiters := []*waiter{start(ctx, l, text(2)), start(ctx, l, text(3)), start(ctx, l, text(4))}
		g.pass <- waltest.ErrIO
		for _, w := range waiters {
			require.ErrorIs(t, w.outcome(), wal.ErrPoisoned)
			require.ErrorIs(t, w.err, waltest.ErrIO)
		}
		require.EqualValues(t, 2, failed)
		require.EqualValues(t, 1, l.Durable())
		require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
	})
}

// TestCommit_PoisonFromOutside has Trim meet the error while a leader syncs and others wait for the next round: the
// leader's record is durable, theirs fail.
func TestCommit_PoisonFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		l := open(t, disk)
		appendAll(t, l, big(1, 40000), big(2, 40000))
		pass := make(chan struct{})
		disk.Inject(func(op waltest.Op) *waltest.Fault {
			switch op.Kind {
			case waltest.Sync:
				<-pass
			case waltest.SyncDir:
				return &waltest.Fault{Err: waltest.ErrIO}
			}
			return nil
		})
		leader, waiter := start(ctx, l, text(3)), start(ctx, l, text(4))
		require.ErrorIs(t, l.Trim(2), wal.ErrPoisoned)
		pass <- struct{}{}
		require.NoError(t, leader.outcome())
		require.ErrorIs(t, waiter.outcome(), wal.ErrPoisoned)
		require.EqualValues(t, 3, l.Durable())
		require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
	})
}

// TestCommit_PoisonAtHandOver has the error come when the lead is about to be handed over: who gets it must not write.
func TestCommit_PoisonAtHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		g := newGate(disk)
		opts := options(disk)
		var l *wal.Log
		opts.OnDurable = func(p wal.Position) {
			if p == 2 {
				disk.FailFrom(disk.Ops(), waltest.ErrIO)
				require.ErrorIs(t, l.Prepare(), wal.ErrPoisoned)
				disk.Inject(nil)
			}
		}
		l = openWith(t, opts)
		appendAll(t, l, text(1))
		g.shut.Store(true)
		leader, waiter := start(ctx, l, text(2)), start(ctx, l, text(3))
		g.pass <- nil
		require.NoError(t, leader.outcome())
		require.ErrorIs(t, waiter.outcome(), wal.ErrPoisoned)
		require.EqualValues(t, 2, l.Durable())
		require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
		require.EqualValues(t, 3, open(t, disk).Next(), "nothing was written after the error")
	})
}

// TestCommit_PoisonWithoutLeader has Prepare meet the error while records are queued and nobody writes them.
func TestCommit_PoisonWithoutLeader(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	failed := wal.Position(0)
	opts.OnFailed = func(from wal.Position, err error) { failed = from }
	l := openWith(t, opts)
	appendAll(t, l, text(1))
	last, err := l.Queue(text(2))
	require.NoError(t, err)
	disk.FailFrom(0, waltest.ErrIO)
	require.ErrorIs(t, l.Prepare(), wal.ErrPoisoned)
	require.EqualValues(t, 2, failed)
	require.ErrorIs(t, l.Wait(ctx, last), wal.ErrPoisoned)
	require.NoError(t, l.Wait(ctx, 1))
	require.ErrorIs(t, l.Close(), wal.ErrPoisoned)
}

// TestCommit_NoSpaceReachesAll: all who wait get the error, and the log goes on.
func TestCommit_NoSpaceReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		l := open(t, disk)
		appendAll(t, l, big(1, 40000))
		disk.SetFree(10000)
		pass := make(chan struct{})
		disk.Inject(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Create {
				<-pass
			}
			return nil
		})
		waiters := []*waiter{start(ctx, l, big(2, 40000)), start(ctx, l, text(3)), start(ctx, l, text(4))}
		close(pass)
		for _, w := range waiters {
			require.ErrorIs(t, w.outcome(), wal.ErrNoSpace)
		}
		_, err := l.Write(text(5))
		require.NoError(t, err, "there is room in the segment")
		require.NoError(t, l.Close())
		got, err := replay(open(t, disk), 2)
		require.NoError(t, err)
		require.Equal(t, map[wal.Position]string{5: string(text(5))}, got)
	})
}

// TestCommit_Concurrent has many appenders with batches, some of whom give up, beside Sync, Trim, Prepare and Replay.
// Invariants: each batch is contiguous and in the order of its producer; who was told nil finds its records durable; and
// OnDurable rises, and has been called before anyone is told.
func TestCommit_Concurrent(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	var told atomic.Uint64
	var calls atomic.Int32
	opts.OnDurable = func(p wal.Position) {
		if calls.Add(1) != 1 || told.Swap(uint64(p)) >= uint64(p) {
			t.Error("OnDurable is not in order, or not one at a time")
		}
		calls.Add(-1)
	}
	l := openWith(t, opts)
	const producers, each = 16, 60
	var wg sync.WaitGroup
	var acked sync.Map
	for id := range producers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(id), 0))
			for n := range each {
				batch := texts(0, random.IntN(3))
				for i := range batch {
					batch[i] = fmt.Appendf(nil, "%d %d %d", id, n, i)
				}
				waiting, cancel := context.WithCancel(ctx)
				if n%7 == 6 {
					go cancel()
				}
				last, err := l.Append(waiting, batch...)
				cancel()
				if err == nil {
					acked.Store(last, batch)
					if told.Load() < uint64(last) || l.Durable() < last {
						t.Error("told before OnDurable")
					}
				}
			}
		})
	}
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := replay(l, l.First()); err != nil {
				t.Error(err)
			}
			if err := l.Prepare(); err != nil {
				t.Error(err)
			}
			if err := l.Sync(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(stop)
	background.Wait()
	require.NoError(t, l.Close())

	l = open(t, disk.Crash(disk.Ops(), 0))
	got, err := replay(l, 0)
	require.NoError(t, err)
	acked.Range(func(last, batch any) bool {
		for i, data := range batch.([][]byte) {
			p := last.(wal.Position) - wal.Position(len(batch.([][]byte))-1-i)
			require.Equal(t, string(data), got[p])
		}
		return true
	})
	newest := map[int]int{}
	for p := wal.Position(1); p < l.Next(); p++ {
		var id, n, i int
		_, err := fmt.Sscanf(got[p], "%d %d %d", &id, &n, &i)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, newest[id], "the order of one producer")
		newest[id] = n
	}
}

func TestCommit_CloseReleasesWaiters(t *testing.T) {
	bubble(t, wal.Options{}, func(t *testing.T, l *wal.Log, disk *waltest.FS, g *gate, leader *waiter) {
		w := start(ctx, l, text(3))
		closed := make(chan error)
		go func() { closed <- l.Close() }()
		synctest.Wait()
		_, err := l.Append(ctx, text(4))
		require.ErrorIs(t, err, wal.ErrClosed)
		g.open()
		require.NoError(t, w.outcome())
		require.NoError(t, <-closed)
		require.EqualValues(t, 3, l.Durable())
	})
}
