package bolt

import (
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// maxUntoldSyncs is how many syncs may wait to be told of. A sync is quicker than a slow
// watcher, and must not wait for it.
const maxUntoldSyncs = 64

// synced is one sync of the log.
type synced struct {
	records uint64
	took    time.Duration
}

// Watch implements [outbox.Watcher]. One goroutine of the store tells all watchers, what
// has become durable only; Close waits until it has told the rest. So the functions of w
// may call the store, but not Close.
func (s *Store) Watch(w outbox.Watch) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return func() {}
	}
	if s.watchers == nil {
		s.watchers = []*outbox.Watch{}
		s.background.Go(s.teller)
	}
	s.watchers = append(s.watchers, &w)
	if w.Synced != nil {
		s.watchSync.Store(true)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(slices.Clone(s.watchers), func(other *outbox.Watch) bool { return other == &w })
	}
}

// noteDropped counts what a record has dropped, for the watchers. mu is held.
func (s *Store) noteDropped(effect *ledger) {
	if len(s.watchers) == 0 || effect.dropped == [len(dropReasons)]int64{} {
		return
	}
	for i, n := range effect.dropped {
		s.unheard.Add(dropReasons[i], uint64(n))
	}
	wake(s.wakeWatch)
}

// noteBuried counts what a record has made a dead letter, for the watchers. mu is held.
func (s *Store) noteBuried(c *change) {
	switch {
	case len(s.watchers) == 0:
		return
	case c.kind == opPark:
		s.unheardDead.KeyParked++
	case c.kind == opDamage && !c.op.wasDead:
		s.unheardDead.Damaged++
	default:
		return
	}
	wake(s.wakeWatch)
}

// onSync is called by the log after each sync.
func (s *Store) onSync(records uint64, took time.Duration) {
	if !s.watchSync.Load() {
		return
	}
	select {
	case s.synced <- synced{records, took}:
	default:
	}
}

// teller tells the watchers. Started by the first Watch, ended by Close through stop,
// which waits for it.
func (s *Store) teller() {
	for {
		select {
		case <-s.stop:
			for range len(s.synced) { // nobody else takes them
				one := <-s.synced
				s.tell(&one)
			}
			return
		case <-s.wakeWatch:
			s.tell(nil)
		case one := <-s.synced:
			s.tell(&one)
		}
	}
}

// tell tells all watchers what was dropped and buried since the last time, and of a sync, without
// a lock.
func (s *Store) tell(one *synced) {
	s.mu.Lock()
	watchers, dropped, buried := s.watchers, s.unheard, s.unheardDead
	s.unheard, s.unheardDead = outbox.Dropped{}, outbox.Buried{}
	s.mu.Unlock()
	for _, w := range watchers {
		w.TellDropped(dropped)
		w.TellBuried(buried)
		if w.Synced != nil && one != nil {
			w.Synced(one.records, one.took)
		}
	}
}
