package bolt

import (
	"slices"

	"github.com/goutbox/goutbox/outbox"
)

// lane holds the tasks of one ordering key that are in memory. Only the key's
// head may be claimed: the lowest ID that waits or is in flight, in memory or in
// the database (P4).
type lane struct {
	key     string
	waiting []*entry // by ID
	busy    *entry   // the head, while it is claimed or settling towards a retry

	// seen bounds what memory knows of the key: all its tasks in the database with
	// a lower ID are in memory. A head with seen or higher has to wait until a
	// lookup has shown that nothing older lies in the database.
	seen  outbox.ID
	asked int // its index in overlay.lookups, from 1; 0 = not there

	// parker is the oldest dead letter in the database alone that parks the key, as far as
	// seen is right; zero = none.
	parker outbox.ID

	left int // tasks that were heads and of whose end the database does not know yet
}

// maxID is above every ID: nothing of the key is in the database alone.
var maxID = func() (id outbox.ID) {
	for i := range id {
		id[i] = 0xff
	}
	return id
}()

func (l *lane) add(e *entry) {
	i, _ := slices.BinarySearchFunc(l.waiting, e, func(a, b *entry) int { return a.id.Compare(b.id) })
	l.waiting = slices.Insert(l.waiting, i, e)
}

func (l *lane) remove(e *entry) {
	if len(l.waiting) > 0 && l.waiting[0] == e { // nearly always
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		return
	}
	i, ok := slices.BinarySearchFunc(l.waiting, e, func(a, b *entry) int { return a.id.Compare(b.id) })
	if ok {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}
