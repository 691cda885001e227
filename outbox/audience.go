package outbox

import (
	"slices"
	"time"
)

// audience is who publishes at the moment, and so may have to be woken. It is replaced,
// never changed.
type audience struct {
	all  []*dispatcher
	any  []*dispatcher // of them, those that take events of every name
	runs []*muxRun     // what the others belong to
}

// muxRun is one run of a Mux: where the events go by their names. A dispatcher that has
// ended already, or has yet to begin, may be woken all the same.
type muxRun struct {
	routes routes // as they are for as long as it lasts: see Mux.begin
	to     map[*Destination]*dispatcher
	rest   *dispatcher // for what nobody handles; or nil
}

func newAudience(all []*dispatcher) *audience {
	a := &audience{all: all}
	for _, d := range all {
		switch {
		case d.among == nil:
			a.any = append(a.any, d)
		case !slices.Contains(a.runs, d.among):
			a.runs = append(a.runs, d.among)
		}
	}
	return a
}

// nudge has those look for work who publish events of that name: something of it may
// have become claimable.
func (a *audience) nudge(name string) {
	for _, d := range a.any {
		d.nudge()
	}
	for _, run := range a.runs {
		d := run.rest
		if r := run.routes.route(name); r != nil {
			d = run.to[r.dest]
		}
		if d != nil {
			d.nudge()
		}
	}
}

// nudge has every dispatcher look for work: anything may have become claimable.
func (o *Outbox) nudge() {
	for _, d := range o.running.Load().all {
		d.nudge()
	}
}

// nudgeFor has those look for work who publish events of these names; all without any.
func (o *Outbox) nudgeFor(names []string) {
	if len(names) == 0 {
		o.nudge()
		return
	}
	a := o.running.Load()
	for _, name := range names {
		a.nudge(name)
	}
}

// changed has the others look for work after a call of the store, of which only the store
// knows what it has made claimable: the event itself, the next of a key, whatever its
// name is. A NameNotifier has told them already, or will as soon as it is so.
func (o *Outbox) changed() {
	if !o.named {
		o.nudge()
	}
}

// join makes d one of those that are woken, until leave is called. The first to come
// listens to the store for all.
func (o *Outbox) join(d *dispatcher) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running.Store(newAudience(append(slices.Clone(o.running.Load().all), d)))
	if o.unnotify == nil {
		o.unnotify = o.listen()
	}
	return func() {
		o.ranLast.Store(int64(time.Since(o.began)))
		o.mu.Lock()
		defer o.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(o.running.Load().all), func(other *dispatcher) bool { return other == d })
		if len(rest) == 0 {
			o.unnotify()
			o.unnotify = nil
		}
		o.running.Store(newAudience(rest))
	}
}

// listen has the store say what has become claimable.
func (o *Outbox) listen() (stop func()) {
	switch s := o.store.(type) {
	case NameNotifier:
		return s.NotifyNames(o.nudgeFor)
	case Notifier:
		return s.Notify(o.nudge)
	}
	return func() {}
}
