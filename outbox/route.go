package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// route is what becomes of the events of one pattern.
type route struct {
	dest *Destination
	one  Publisher      // either this
	all  BatchPublisher // or this
}

// routes say what becomes of events by their names.
type routes struct {
	exact  map[string]*route
	prefix map[string]*route // "order." of the pattern "order.*", "" of "*"
}

// placeLocked returns where the route of a pattern belongs, or what is wrong with it.
func (m *Mux) placeLocked(pattern string) (at *map[string]*route, key string, err error) {
	at, key = &m.exact, pattern
	if stem, star := strings.CutSuffix(pattern, "*"); star {
		at, key = &m.prefix, stem
	}
	switch {
	case m.running > 0:
		return nil, "", fmt.Errorf("%w: pattern %q comes while the mux runs", ErrInvalid, pattern)
	case pattern == "":
		return nil, "", fmt.Errorf("%w: the pattern is empty", ErrInvalid)
	case len(pattern) > MaxNameBytes:
		return nil, "", fmt.Errorf("%w: pattern of %d bytes, a name has %d at most", ErrInvalid, len(pattern), MaxNameBytes)
	case strings.Contains(key, "*"), at == &m.prefix && key != "" && (key == "." || !strings.HasSuffix(key, ".")):
		return nil, "", fmt.Errorf("%w: pattern %q: a star stands alone, or at the end after a dot", ErrInvalid, pattern)
	case (*at)[key] != nil:
		return nil, "", fmt.Errorf("%w: pattern %q is handled by destination %q", ErrInvalid, pattern, (*at)[key].dest.name)
	}
	return at, key, nil
}

// route returns the route of the events of that name, or nil. It is called while the
// Mux runs, also by stores that hold a lock.
func (rs *routes) route(name string) *route {
	if r := rs.exact[name]; r != nil {
		return r
	}
	for end := len(name); ; {
		if end = strings.LastIndexByte(name[:end], '.'); end < 0 {
			return rs.prefix[""]
		}
		if r := rs.prefix[name[:end+1]]; r != nil {
			return r
		}
	}
}

// matches reports whether events of that name are for d.
func (d *Destination) matches(name string) bool {
	r := d.mux.route(name)
	return r != nil && r.dest == d
}

// unhandled reports whether events of that name are for nobody.
func (m *Mux) unhandled(name string) bool { return m.route(name) == nil }

// errUnhandled says that no attempt was made.
var errUnhandled = mark(errors.New("no pattern of the mux matches the event's name"), unhandled, 0)

// publish publishes tasks, each by its own route. It looks at the name, not at who was
// to claim the task: that a store has not obeyed Match must not lead an event astray.
func (m *Mux) publish(ctx context.Context, tasks []Task, errs []error) {
	first := m.route(tasks[0].Name)
	alike := 1
	for alike < len(tasks) && m.route(tasks[alike].Name) == first {
		alike++
	}
	if alike == len(tasks) {
		first.publish(ctx, tasks, errs)
		return
	}
	var order []*route
	groups := map[*route][]int{}
	for i := range tasks {
		r := m.route(tasks[i].Name)
		if groups[r] == nil {
			order = append(order, r)
		}
		groups[r] = append(groups[r], i)
	}
	for _, r := range order {
		part, got := make([]Task, 0, len(tasks)), make([]error, len(groups[r]))
		for _, i := range groups[r] {
			part = append(part, tasks[i])
		}
		r.publish(ctx, part, got)
		for n, i := range groups[r] {
			errs[i] = got[n]
		}
	}
}

// publish publishes tasks that are all of this route.
func (r *route) publish(ctx context.Context, tasks []Task, errs []error) {
	switch {
	case r == nil:
		for i := range errs {
			errs[i] = errUnhandled
		}
	case r.all != nil:
		r.all.all(ctx, tasks, errs)
	default:
		r.one.each(ctx, tasks, errs)
	}
}
