package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// snapshot is what a checkpoint brings to the database: everything that the log
// says up to a position.
type snapshot struct {
	pos   wal.Position
	since ledger
	state state // without ledger
	items []item
}

// flush moves what waits to the database and lets the log be recycled up to there.
// It works in transactions of bounded size (P7, R31); only the last one stores the
// log position, so a crash in between leads to replaying records whose effect is
// there already, which changes nothing (R29, R30). Afterwards what was moved is no
// longer in memory, unless it is in flight.
//
// Only one flush runs at a time.
func (s *Store) flush(ctx context.Context) error {
	defer s.beginRelief()()
	if err := s.syncLog(ctx); err != nil {
		return s.translate(err)
	}
	snap := s.takeSnapshot()
	if err := s.secureLog(ctx, snap.pos); err != nil { // or the log could end before the checkpoint
		s.abandonFlush(snap.items)
		return err
	}
	rest := snap.items
	defer func() { snap.free(rest) }()
	for p := newPace(); ; {
		n, kind, err := s.nextChunk(rest, p)
		last := n == len(rest)
		if err == nil {
			err = s.flushChunk(snap, rest[:n], last, kind)
		}
		if err != nil && p.slower(err, n, kind) {
			continue
		}
		if err != nil {
			s.abandonFlush(rest)
			if isFull(err) {
				s.markFull(err)
				err = errors.Join(err, s.advance(ctx)) // what was moved is not needed in the log
			}
			return err
		}
		clear(rest[:n]) // what has left memory must not be kept by the snapshot (P7)
		p.faster()
		if rest = rest[n:]; last {
			break
		}
	}
	s.needed = 0
	wake(s.wakeCompact)
	return s.trim(snap.pos + 1)
}

// beginRelief has makeRoom wait for what is done until end: it makes room in memory, or that
// comes after it. It holds flushing.
func (s *Store) beginRelief() (end func()) {
	s.flushing.Lock()
	s.relieving.Store(true)
	return func() {
		s.relieving.Store(false)
		s.flushing.Unlock()
	}
}

// takeSnapshot copies what has to be written, and what can then leave memory.
func (s *Store) takeSnapshot() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := s.overlay.inOrder()
	snap := &snapshot{
		pos:   s.applied,
		since: s.since,
		state: state{checkpoint: s.applied, lastID: s.ids.last, seen: s.moment(), gaps: s.gaps, gapsAt: s.applied},
		items: emptyItems(len(entries)),
	}
	for i, e := range entries {
		e.flushing = true
		it := &snap.items[i]
		*it = e.snapshot()
		it.holdsUnique = e.unique != "" && s.overlay.unique[e.unique] == e
		it.holdsLatest = e.latest != "" && s.overlay.latest[e.latest] == e
	}
	return snap
}

// items keeps the array of a snapshot, which has megabytes, for the next one, if that comes
// before the collector.
var items sync.Pool

// emptyItems returns so many items.
func emptyItems(n int) []item {
	if kept, _ := items.Get().(*[]item); kept != nil && cap(*kept) >= n {
		return (*kept)[:n]
	}
	return make([]item, n)
}

// free ends the use of a snapshot, which must not keep alive what has left memory (P7): what
// of it was not cleared is left.
func (snap *snapshot) free(left []item) {
	clear(left)
	items.Put(&snap.items)
}

// inOrder lists what is durable: first what is stale, for only memory may know that it is,
// and after a crash it must not outlive what has replaced it; then what waits no longer, so
// that the keys that it held are free for what holds them now; each in the order of IDs. The
// dirty list nearly has that, as tasks become durable in the order of their IDs, and to sort
// what is in order costs next to nothing.
func (o *overlay) inOrder() []*entry {
	var lists [turns][]*entry
	lists[turnWaits] = make([]*entry, 0, len(o.entries))
	for e := o.oldest; e != nil; e = e.newer {
		lists[e.turn()] = append(lists[e.turn()], e)
	}
	if o.dirty < len(o.entries) {
		for _, e := range o.entries {
			if e.dirtyAt == 0 && e.home != homeNone { // else it is not durable yet
				lists[e.turn()] = append(lists[e.turn()], e)
			}
		}
	}
	for _, list := range lists {
		slices.SortFunc(list, func(a, b *entry) int { return a.id.Compare(b.id) })
	}
	return slices.Concat(lists[:]...)
}

// In which turn a checkpoint writes an entry, among all that it writes.
const (
	turnStale = iota
	turnEnded
	turnWaits
	turns
)

func (e *entry) turn() int {
	switch {
	case e.gone || e.state == outbox.Dead:
		return turnEnded
	case e.sched.stale:
		return turnStale
	}
	return turnWaits
}

// anyDirty reports whether the database lacks something of the items.
func anyDirty(items []item) bool {
	for i := range items {
		if items[i].dirty {
			return true
		}
	}
	return false
}

// chunk returns how many items one transaction takes.
func chunk(items []item, most int) int {
	bytes := 0
	for i := range items {
		if bytes += len(items[i].raw) + items[i].sched.weight(); i >= most || bytes > chunkBytes && i > 0 {
			return i
		}
	}
	return len(items)
}

// flushChunk writes some items, and with the last of them the state.
func (s *Store) flushChunk(snap *snapshot, items []item, last bool, kind growth) error {
	dirty := anyDirty(items)
	var w *writer
	if dirty || last && snap.pos != s.checkpoint {
		var err error
		if w, err = s.writeChunk(snap, items, last, kind); err != nil {
			return err
		}
		s.checkpoints.Add(1)
		s.checkpointed.Store(s.opts.wallClock().UnixNano())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if w != nil {
		s.use.add(w.correction)
		for _, p := range w.listed {
			s.overlay.look(p)
		}
	}
	largest := s.largest.Load()
	for i := range items {
		if items[i].adds() {
			largest = max(largest, int64(len(items[i].raw)))
		}
		s.flushed(&items[i])
	}
	s.overlay.sweep()
	s.largest.Store(largest)
	if last && snap.pos != s.checkpoint {
		s.base.add(snap.since, 1)
		s.since.add(snap.since, -1)
		s.checkpoint, s.noted = snap.pos, snap.state.seen.clock
	}
	s.madeRoomLocked()
	return nil
}

// writeChunk is the transaction of flushChunk.
func (s *Store) writeChunk(snap *snapshot, items []item, last bool, kind growth) (w *writer, err error) {
	defer contain(&err, s.path, debug.SetPanicOnFault(true))
	stats, err := s.write(kind, func(tx *bbolt.Tx) (err error) {
		w, err = s.putChunk(tx, snap, items, last)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.written.Add(uint64(stats.GetPageAlloc()))
	return w, nil
}

// putChunk is what the transaction does.
func (s *Store) putChunk(tx *bbolt.Tx, snap *snapshot, items []item, last bool) (*writer, error) {
	b, err := openBuckets(tx)
	if err != nil {
		return nil, err
	}
	w := newWriter(b)
	w.now, w.listed = s.clock.now(), make([]place, 0, len(items))
	s.mu.Lock()
	s.reconcile(tx, b)
	for i := range items {
		s.overlay.catchUp(&items[i])
	}
	s.mu.Unlock()
	for i := range items {
		if !items[i].dirty {
			continue
		}
		if err := w.put(&items[i]); err != nil {
			return nil, fmt.Errorf("bolt: checkpoint: task %s: %w", items[i].header.id, err)
		}
	}
	if _, err := w.forgetSpent(w.spends + spentAtOnce); err != nil {
		return nil, fmt.Errorf("bolt: checkpoint: %w", err)
	}
	if err := w.finish(s.path); err != nil {
		return nil, fmt.Errorf("bolt: checkpoint: %w", err)
	}
	if last {
		err := changeState(b.meta, s.path, func(st *state) {
			st.ledger.add(snap.since, 1)
			st.checkpoint = snap.state.checkpoint
			if snap.state.lastID.Compare(st.lastID) > 0 {
				st.lastID = snap.state.lastID
			}
			st.seen.see(snap.state.seen)
			st.gaps, st.gapsAt = snap.state.gaps, snap.state.gapsAt
		})
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// abandonFlush ends a flush that failed: what it did not write stays as it is.
func (s *Store) abandonFlush(items []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range items {
		e := items[i].e
		e.flushing = false
		if e.gone && e.home == homeNone && e.spent == 0 {
			s.overlay.clean(e)
			s.overlay.forget(e)
		}
	}
}

// trim recycles the log before keep.
func (s *Store) trim(keep wal.Position) error {
	s.logged.Store(0)
	return s.translate(s.log.Trim(keep))
}

// lighten recycles the part of the log of which nothing is needed any more,
// without touching the database: when events are delivered as fast as they are
// accepted, what lies behind is settled. A baseline record carries the sums over
// to the part that is kept.
func (s *Store) lighten(ctx context.Context) error {
	defer s.beginRelief()()
	return s.lightenLocked(ctx)
}

// lightenLocked is lighten with flushing held.
func (s *Store) lightenLocked(ctx context.Context) error {
	s.mu.Lock()
	base := op{kind: opBase, base: baseline{checkpoint: s.checkpoint, since: s.since, lastID: s.ids.last, clock: s.clock.now()}}
	for i := range s.inbox {
		base.base.since.add(s.inbox[i].effect(), 1)
	}
	sums := s.gapsAhead
	gaps := op{kind: opGaps, gaps: &sums}
	pos, err := s.log.Write(gaps.append(base.append(nil)))
	s.mu.Unlock()
	if err == nil {
		err = s.log.Wait(ctx, pos)
	}
	if err != nil {
		return s.translate(err)
	}
	s.mu.Lock()
	keep, applied := s.overlay.neededFrom(pos), s.applied // all before pos has been applied
	s.mu.Unlock()
	// Or the log could begin behind what it sums up, or lack what has ended a task before keep.
	if err := s.secureLog(ctx, max(pos, applied)); err != nil {
		return err
	}
	s.mu.Lock()
	s.noted = base.base.clock
	s.mu.Unlock()
	return s.trim(keep)
}

// count notes what was queued in the log.
func (s *Store) count(bytes int64) {
	s.logged.Add(bytes)
	s.unprepared.Add(bytes)
}

// crowded reports whether there is work for the flusher. mu is held.
func (s *Store) crowded() bool {
	if s.unprepared.Load() > s.opts.segmentBytes/8 {
		return true
	}
	return s.noRoom == nil && // else the overlay can not help it, and the log is looked after as it is used
		(s.overlay.over(s.opts.softEntries, softBytes) || s.logged.Load() > s.opts.segmentBytes)
}

// full reports whether the overlay has reached its hard bound. mu is held.
func (s *Store) full() bool {
	return s.overlay.over(s.opts.hardEntries, 2*softBytes)
}
