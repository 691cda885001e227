package bolt

import "github.com/goutbox/goutbox/outbox"

// parks checks the dead letters in memory that park their key.
func (a *auditor) parks(o *overlay) {
	n := 0
	for key, list := range o.parks {
		n += len(list)
		for _, e := range list {
			if o.entries[e.id] != e || e.gone || e.key != key || !e.parking {
				a.wrong("key %q is said to be parked by task %s, which is not there", key, e.id)
			}
		}
	}
	for id, e := range o.entries {
		if e.parking {
			n--
		}
		dead := e.phase == idle && e.state == outbox.Dead && !e.gone && e.damaged == homeNone
		if dead && e.parksFor(e.reason) && !e.parking {
			a.wrong("P4: dead task %s parks key %q, but memory does not know", id, e.key)
		}
	}
	same(a, "dead letters in memory that park their key", n, 0)
	for key, l := range o.lanes {
		if e := o.entries[l.parker]; e != nil && !e.parking {
			a.wrong("P4: key %q is said to be parked by task %s, which is not dead any more", key, e.id)
		}
	}
}

// park checks an entry of the parked bucket.
func (a *auditor) park(k, _ []byte) {
	key, id, ok := keyAndID(k)
	switch {
	case !ok:
		a.wrong("parked: a key of %d bytes", len(k))
	case a.memory[id].damaged: // a checkpoint takes it away
	case !parksIn(a.b, key, id):
		a.wrong("task %s is listed as parking key %q, which it does not", id, key)
	}
}

// spent checks a Unique key that is taken after a delivery.
func (a *auditor) spent(k, v []byte) {
	if len(k) > 0 && k[0] == 'k' {
		until, err := readSpent(k, v)
		switch {
		case err != nil:
			a.wrong("%v", err)
		case !has(a.b.spent, spentWhen(until, k[1:])):
			a.wrong("unique key %q is taken until %d, but not listed by time", k[1:], until)
		}
		return
	}
	until, key, ok := spentOf(k)
	if !ok {
		a.wrong("spent: a key of %d bytes", len(k))
		return
	}
	place := spentPlace(string(key))
	if is, err := readSpent(place, a.b.spent.Get(place)); err != nil || is != until {
		a.wrong("unique key %q is listed as taken until %d, but is not", key, until)
	}
}
