package outbox

import "time"

// Watcher is what a [Store] also implements when it can tell what it does by itself.
type Watcher interface {
	// Watch has the functions of w called, until stop is called. No lock of the store is
	// held meanwhile, and nobody waits for them who accepts, claims or settles; so they
	// may come a moment late, and drops of one reason may come together.
	Watch(w Watch) (stop func())
}

// Watch is what a [Watcher] tells. Each function may be nil. They return soon.
type Watch struct {
	Dropped func(r Reason, n uint64)                 // n tasks were dropped; all are told
	Buried  func(r Reason, n uint64)                 // n tasks became dead letters, and no outcome of Settle said so; all are told
	Synced  func(records uint64, took time.Duration) // one sync; when they come too fast some are left out
}

// TellDropped tells of each reason that has dropped anything. Stores use it.
func (w Watch) TellDropped(d Dropped) {
	if w.Dropped == nil {
		return
	}
	for _, r := range [...]struct {
		reason Reason
		n      uint64
	}{{ReasonExpired, d.Expired}, {ReasonCoalesced, d.Coalesced}, {ReasonQuota, d.Quota}, {ReasonDeleted, d.Deleted}} {
		if r.n > 0 {
			w.Dropped(r.reason, r.n)
		}
	}
}

// Buried counts, by reason, the tasks of which a store has made dead letters by itself.
type Buried struct{ KeyParked, Damaged uint64 }

// Total sums all reasons.
func (b Buried) Total() uint64 { return b.KeyParked + b.Damaged }

// TellBuried tells of each reason for which the store has buried anything. Stores use it.
func (w Watch) TellBuried(b Buried) {
	if w.Buried == nil {
		return
	}
	if b.KeyParked > 0 {
		w.Buried(ReasonKeyParked, b.KeyParked)
	}
	if b.Damaged > 0 {
		w.Buried(ReasonDamaged, b.Damaged)
	}
}

// watch has the store tell the observers what only it knows, for as long as it lives: an
// outbox has no end.
func (o *Outbox) watch() {
	s, ok := o.store.(Watcher)
	if !ok {
		return
	}
	for _, w := range o.observers {
		var told Watch
		if w.Dropped != nil {
			told.Dropped = func(r Reason, n uint64) { w.call(hookDropped, func() { w.Dropped(r, n) }) }
		}
		if w.Buried != nil {
			told.Buried = func(r Reason, n uint64) { w.call(hookBuried, func() { w.Buried(r, n) }) }
		}
		if w.Sync != nil {
			told.Synced = func(n uint64, took time.Duration) { w.call(hookSync, func() { w.Sync(n, took) }) }
		}
		if told.Dropped != nil || told.Buried != nil || told.Synced != nil {
			s.Watch(told)
		}
	}
}
