package wal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// How records become durable: the caller leads.
//
//	Queue   puts records into the open round.
//	Wait    nobody leads: leads. Somebody does: waits until the round is over, or until it is handed the lead.
//	lead    gathers a moment, takes the open round away (a new one opens), writes it, syncs it once, calls OnDurable,
//	        wakes all who wait for it, and hands the lead to one who waits for the next round.
//
// So a lone caller pays for one write and one sync, and for no switch of goroutines; with a goroutine that committed for
// everybody it got a fifth of that. What arrives during a sync goes along with the next one, so there is no timer.
//
// Who leads is decided under mu, and is passed on through a channel of the round: see I1 to I3 in doc.go.

// How long a leader waits for the callers it expects: longer brings nothing, as they are on their way already or are not
// coming. The count is for clocks that stand still, such as that of testing/synctest.
const (
	gatherMax    = 100 * time.Microsecond
	gatherYields = 2000
)

// Wait returns nil when the record at this position is durable. The first caller who finds nobody writing does it, for
// everything queued so far. When the context ends first the error is ErrUnknown and that of the context: the record
// keeps its place and may become durable (R14). A caller who is writing does not look at the context before it is done.
// Wait is not needed for a record to become durable: the next sync covers everything queued before it.
func (l *Log) Wait(ctx context.Context, p Position) error {
	l.mu.Lock()
	r, err := l.roundLocked(p)
	if r == nil {
		l.mu.Unlock()
		return err
	}
	return l.waitUnlock(ctx, r, p)
}

// Flush waits for everything queued so far, as Wait does. It does no I/O when all of it is durable. When the newest
// record failed it returns why; of older ones only OnFailed tells.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	last := l.next - 1
	r, err := l.roundLocked(last)
	if r == nil {
		l.mu.Unlock()
		return err
	}
	return l.waitUnlock(ctx, r, last)
}

// Sync is Flush that leaves no doubt: it also syncs what a lazy log has only written, and writes again what Open found
// at the end of the log and nothing vouches for; see Synced, which also tells how far it came when it returns an error.
// It does no I/O when there is nothing of all that. ErrNoSpace may also mean that the device has no room for what must
// be written again.
func (l *Log) Sync(ctx context.Context) error {
	flushed := l.Flush(ctx)
	if flushed != nil && !errors.Is(flushed, ErrNoSpace) {
		return flushed
	}
	for target := l.Durable(); l.Synced() < target; {
		l.mu.Lock()
		if err := l.usableLocked(); err != nil {
			l.mu.Unlock()
			return err
		}
		r := l.open
		r.sync = true
		if err := l.waitUnlock(ctx, r, target); err != nil {
			return err
		}
		l.mu.Lock()
		err := r.err
		l.mu.Unlock()
		if err != nil && l.Synced() < target {
			return err
		}
	}
	return flushed
}

// roundLocked returns the round that record p is in, or nil and the fate of p when that is known.
func (l *Log) roundLocked(p Position) (*round, error) {
	if w := l.writing; w != nil && w.first <= p && p <= w.last {
		return w, nil // also when it is durable: OnDurable comes first
	}
	for i := len(l.failed) - 1; i >= 0; i-- {
		if f := l.failed[i]; f.from <= p && p <= f.to {
			return nil, f.err
		}
	}
	switch {
	case p <= l.Durable():
		return nil, nil
	case p < l.next:
		return l.open, nil
	}
	if err := l.usableLocked(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("wal: wait for record %d: the newest is %d", p, l.next-1)
}

// waitUnlock waits until round r is over, leads if nobody does, and returns the fate of record p. It is called with mu
// held and returns without.
func (l *Log) waitUnlock(ctx context.Context, r *round, p Position) error {
	r.callers.Add(1)
	if r != l.open || l.leading {
		if lead, err := l.blockUnlock(ctx, r, p); !lead {
			return err
		}
	}
	l.leadLocked()
	l.mu.Unlock()
	return r.outcome(p)
}

// blockUnlock blocks until round r is over, until the caller is to lead it, or until the context ends. When it reports
// that the caller is to lead, mu is held again; else the fate of record p is returned.
func (l *Log) blockUnlock(ctx context.Context, r *round, p Position) (lead bool, err error) {
	r.blockLocked()
	l.mu.Unlock()
	select {
	case <-r.done:
		return false, r.outcome(p)
	case <-r.lead:
		l.mu.Lock()
		r.waiting--
		return true, nil
	case <-ctx.Done():
	}

	l.mu.Lock()
	r.waiting--
	if r.inheritLocked() {
		return true, nil // I2: it stays one sync longer, and then knows
	}
	defer l.mu.Unlock()
	if r.over {
		return false, r.outcome(p)
	}
	r.left = true
	return false, fmt.Errorf("%w: record %d: %w", ErrUnknown, p, ctx.Err())
}

// leadLocked writes the open round, which is the caller's, and hands the lead over.
func (l *Log) leadLocked() {
	l.leading = true
	for {
		l.gatherLocked()
		r := l.open
		l.open = l.newRoundLocked()
		l.writing = r
		err := l.err // Prepare or Trim may have met it a moment ago: then nothing more is written (R9)
		if err == nil {
			l.mu.Unlock()
			err = l.commit(r)
			l.mu.Lock()
		}
		l.settleLocked(r, err)

		next := l.open
		l.expected = r.callers.Load() + next.callers.Load()
		if next.waiting > 0 {
			next.lead <- struct{}{} // capacity 1, and never two tokens: does not block
			return
		}
		if !next.left {
			l.leading = false
			return
		}
		// All who waited for it gave up. Their records are not left lying about: nobody may come for a long time.
	}
}

// gatherLocked lets those come who took part in the last round: all of them were woken a moment ago and are likely to be
// back. Without it a loop of producers splits into two halves that take turns, and each sync carries half as much. A
// lone caller expects nobody. mu is released meanwhile; the open round stays the caller's, as it leads.
func (l *Log) gatherLocked() {
	r, expected := l.open, l.expected
	if r.callers.Load() >= expected {
		return
	}
	l.mu.Unlock()
	start := time.Now()
	for i := 0; i < gatherYields && r.callers.Load() < expected && time.Since(start) < gatherMax; i++ {
		runtime.Gosched()
	}
	l.mu.Lock()
}

// settleLocked makes the outcome of round r known: first to OnDurable and OnFailed, then to those who wait. Only the
// leader calls it. mu is released during the callbacks.
func (l *Log) settleLocked(r *round, err error) {
	done := l.written
	if err != nil && !errors.Is(err, ErrNoSpace) {
		l.poisonLocked(err)
		done = max(l.synced, l.Durable()) // of a lazy log: what was written for this round is not vouched for
	}
	if l.err != nil {
		err = l.err // Prepare or Trim may have met it too
	}
	news := done > l.Durable()
	l.durable.Store(uint64(done))
	from, lost := done+1, err != nil && done+1 < l.next
	if err != nil {
		r.failLocked(from, err)
		l.open.failLocked(from, err)
	}
	if lost {
		l.failing = true
		l.failed = append(l.failed, failure{from, l.next - 1, err})
	}
	l.mu.Unlock()

	if news && l.opts.OnDurable != nil {
		l.opts.OnDurable(l.Durable())
	}
	if lost && l.opts.OnFailed != nil {
		l.opts.OnFailed(from, err)
	}

	l.mu.Lock()
	l.failing = false
	l.writing = nil
	r.finishLocked()
	if err != nil {
		l.open.finishLocked()
		l.open = &round{}
		return
	}
	l.idle.keep(r)
}
