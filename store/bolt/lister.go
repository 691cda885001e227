package bolt

import (
	"slices"

	"go.etcd.io/bbolt"
)

// lister changes what the due bucket lists, within one transaction. What is added and
// removed is gathered and done together, in order: what has come together shares a key, and
// a sheet is written once, however many leave it. settle does what is left.
type lister struct {
	due             *bbolt.Bucket
	coming, leaving []place

	key     []byte // of the sheet that is being changed, nil if none is
	last    spot   // that it had when it was read
	spots   []spot // that it has by now
	changed bool
	damaged bool // nobody knows what else it has
}

// gatherMost is how many places are gathered (P7).
const gatherMost = 4096

// add lists a place; one that is listed already stays so.
func (l *lister) add(p place) error {
	l.coming = append(l.coming, p)
	return l.full(l.coming)
}

// remove takes a place out if it is listed. One that was added since settle is not: what
// leaves goes first.
func (l *lister) remove(p place) error {
	l.leaving = append(l.leaving, p)
	return l.full(l.leaving)
}

func (l *lister) full(list []place) error {
	if len(list) < gatherMost {
		return nil
	}
	return l.settle()
}

// open reads what is under the key of a place, or of the sheet around it, unless it is
// that which is being changed.
func (l *lister) open(at []byte) error {
	p := spotAtEnd(at)
	if l.key != nil && sameQueue(l.key, at) && !p.before(spotAtEnd(l.key)) && !l.last.before(p) {
		return nil
	}
	if err := l.close(); err != nil {
		return err
	}
	k, spots, damaged := underKey(l.due, at, l.spots[:0])
	if l.spots, l.damaged = spots, damaged; k != nil {
		l.key, l.last = append([]byte(nil), k...), spots[len(spots)-1]
	}
	return nil
}

// close writes the sheet that was being changed. One that is damaged stays as it is, so that
// a claim comes upon it, and what else it lists is not forgotten (P11): see reindex.
func (l *lister) close() error {
	key, changed := l.key, l.changed && !l.damaged
	if l.key, l.changed = nil, false; key == nil || !changed {
		return nil
	}
	if len(l.spots) == 0 || l.spots[0] != spotAtEnd(key) {
		if err := l.due.Delete(key); err != nil {
			return err
		}
	}
	for rest := l.spots; len(rest) > 0; {
		n := len(rest)
		if n > sheetMost {
			n = min(n/2, sheetSpots)
		}
		if err := l.put(queuePart(key), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// put writes a sheet.
func (l *lister) put(queue []byte, spots []spot) error {
	k := spots[0].append(append(make([]byte, 0, len(queue)+spotSize), queue...))
	return l.due.Put(k, appendSheet(nil, k, spots[1:]))
}

// settle does what was gathered.
func (l *lister) settle() error {
	if err := l.removeAll(inOrder(l.leaving)); err != nil {
		return err
	}
	if err := l.addAll(inOrder(l.coming)); err != nil {
		return err
	}
	clear(l.leaving)
	clear(l.coming)
	l.leaving, l.coming = l.leaving[:0], l.coming[:0]
	return nil
}

// inOrder sorts places, and leaves each of them once.
func inOrder(places []place) []place {
	if !slices.IsSortedFunc(places, place.compare) {
		slices.SortFunc(places, place.compare)
	}
	return slices.Compact(places)
}

func (l *lister) removeAll(places []place) error {
	for _, p := range places {
		at := p.key()
		if err := l.open(at); err != nil {
			return err
		}
		if l.key == nil {
			continue
		}
		if i, found := findSpot(l.spots, spotAtEnd(at)); found {
			l.spots, l.changed = slices.Delete(l.spots, i, i+1), true
		}
	}
	return l.close()
}

// addAll lists places, in sheets where nothing stands between.
func (l *lister) addAll(places []place) error {
	var free stretch
	for rest := places; len(rest) > 0; {
		n := free.takes(rest)
		if n == 0 {
			at := rest[0].key()
			if free = stretchFrom(l.due, at); free.takes(rest) == 0 {
				if err := l.insert(at); err != nil {
					return err
				}
				rest = rest[1:]
			}
			continue
		}
		if err := l.run(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return l.close()
}

// run writes places that follow each other.
func (l *lister) run(places []place) error {
	if len(places) == 1 {
		return l.due.Put(places[0].key(), nil)
	}
	if err := l.close(); err != nil { // which has made use of spots
		return err
	}
	l.spots = l.spots[:0]
	for _, p := range places {
		l.spots = append(l.spots, p.spot)
	}
	return l.put(places[0].queue.append(nil), l.spots)
}

// insert adds a place where others are: it may be there, or in the middle of a sheet.
func (l *lister) insert(at []byte) error {
	if err := l.open(at); err != nil {
		return err
	}
	if l.key == nil {
		return l.due.Put(at, nil)
	}
	if i, found := findSpot(l.spots, spotAtEnd(at)); !found {
		l.spots, l.changed = slices.Insert(l.spots, i, spotAtEnd(at)), true
	}
	return nil
}

// stretch is a part of a queue, from somewhere on, in which nothing is listed.
type stretch struct {
	queue queueName
	free  bool
	end   spot // the next that is listed
}

// stretchFrom returns that from a place on. There is none where the place is listed, or
// stands within a sheet.
func stretchFrom(due *bbolt.Bucket, at []byte) (f stretch) {
	p, ok := placeOf(at)
	if k, _, _ := underKey(due, at, nil); k != nil || !ok {
		return f
	}
	f = stretch{queue: p.queue, free: true, end: spotEnd}
	if k, _ := due.Cursor().Seek(at); k != nil && sameQueue(k, at) {
		f.end = spotAtEnd(k)
	}
	return f
}

// takes returns how many of some rising places may share a key. In the queue of earlier
// formats, which only drains, each keeps its own.
func (f *stretch) takes(places []place) (n int) {
	for f.free && n < len(places) && n < sheetSpots && places[n].queue == f.queue && places[n].before(f.end) {
		if n++; f.queue.legacy {
			break
		}
	}
	return n
}
