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
		if w.Sync != nil {
			told.Synced = func(n uint64, took time.Duration) { w.call(hookSync, func() { w.Sync(n, took) }) }
		}
		if told.Dropped != nil || told.Synced != nil {
			s.Watch(told)
		}
	}
}
