package bolt

import (
	"errors"
	"path/filepath"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// account writes what the new database has to say of the whole store, such that
// recovery, which replays the log onto it next, ends in a state that adds up (P5).
func (r *rebuild) account() error {
	if err := r.room(0); err != nil {
		return err
	}
	after, st := replayed{r: r, tasks: map[outbox.ID]tailTask{}, lastID: r.lastInLog}, r.state
	if err := after.read(st.checkpoint); err != nil {
		return err
	}
	waiting, dead, err := after.count()
	if err != nil {
		return err
	}
	before := st.ledger.accepted
	st.ledger.dead = dead - after.since.dead
	sum := st.ledger
	sum.add(after.since, 1)
	st.ledger.accepted += waiting - sum.waiting()
	r.WrittenOff = before - st.ledger.accepted
	if !r.v.known {
		r.WrittenOff = 0 // nobody knows what it was
	}
	for _, id := range [...]outbox.ID{r.lastID, after.lastID} {
		if id.Compare(st.lastID) > 0 {
			st.lastID = id
		}
	}
	if !r.v.known {
		st.seen = r.seen
	}
	after.say()
	for i := range st.gaps {
		if g := &st.gaps[i]; g.open && !r.comes[g.last] && load(r.b, g.last) == nil {
			g.open = false // it is lost, and must not keep the next one back
		}
	}
	meta := r.b.meta
	err = st.put(meta)
	if err == nil && r.next > 1 {
		err = putSalvaged(meta, r.next-1)
	}
	if err != nil {
		return err
	}
	u, err := recount(r.b)
	if err != nil {
		return err
	}
	return u.write(meta)
}

// replayed is what replaying the log onto the new database will give.
type replayed struct {
	r      *rebuild
	tasks  map[outbox.ID]tailTask // that the log is about
	since  ledger
	lastID outbox.ID
}

// eachOp calls f for the operations of the log's records.
func (s *salvage) eachOp(f func(pos wal.Position, o *op) error) error {
	logDir := filepath.Join(s.dir, logName)
	has, err := s.o.hasSegments(logDir)
	if err != nil || !has {
		return err
	}
	_, err = wal.Verify(logDir, wal.Options{Store: s.logOf, FS: s.o.logFS}, func(rec wal.Record) error {
		return decodeOps(rec.Data, func(o op) error { return f(rec.Position, &o) })
	})
	return err
}

// position finds the record that the database stands at, for the log as it is now. A
// database that is older than the beginning of the log, or newer than its end, moves
// there: between them nothing is left. Baselines say what records that were recycled did
// to the ledger since a checkpoint; those of another one are passed over, and the ledger
// is put right without them.
func (r *rebuild) position() error {
	st := r.v.state // zeros where it is not known
	first, next := max(r.first, 1), max(r.next, 1)
	fits, other := false, false
	created := map[outbox.ID]wal.Position{}
	err := r.eachOp(func(pos wal.Position, o *op) error {
		switch o.kind {
		case opBase:
			fits = fits || o.base.checkpoint == st.checkpoint
			other = other || o.base.checkpoint > st.checkpoint
			if o.base.lastID.Compare(r.lastInLog) > 0 {
				r.lastInLog = o.base.lastID
			}
		case opCreate:
			h, err := decodeHeader(o.raw)
			if err != nil {
				return err
			}
			created[h.id] = pos
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !r.v.known || st.checkpoint >= next || other || !fits && st.checkpoint+1 < first {
		if r.v.known && st.checkpoint+1 < first {
			r.LostRecords = append(r.LostRecords, Range{st.checkpoint + 1, first - 1})
		}
		st.checkpoint = min(max(st.checkpoint, first-1), next-1)
	}
	st.gapsAt = min(st.gapsAt, next-1) // or what comes next would count for nothing
	r.state, r.comes = st, map[outbox.ID]bool{}
	for id, pos := range created {
		if pos > st.checkpoint {
			r.comes[id] = true
		}
	}
	return nil
}

// read goes through the log as recovery does.
func (a *replayed) read(checkpoint wal.Position) error {
	return a.r.eachOp(func(pos wal.Position, o *op) error {
		if o.kind == opCreate {
			h, err := decodeHeader(o.raw)
			if err != nil {
				return err
			}
			if o.id = h.id; h.id.Compare(a.lastID) > 0 {
				a.lastID = h.id
			}
		}
		switch {
		case pos <= checkpoint, o.kind == opGaps, o.kind == opBase && o.base.checkpoint != checkpoint:
			return nil
		case o.kind == opBase:
			a.since = o.base.since
			return nil
		}
		a.since.add(o.effect(), 1)
		now := a.task(o.id)
		switch o.kind {
		case opCreate:
			if !now.there {
				now = tailTask{home: homeTasks, there: true}
			}
			if o.replaces != (outbox.ID{}) {
				a.tasks[o.replaces] = tailTask{}
			}
		case opRetry: // one that is dead already stays so
			if !now.there {
				now.home = homeTasks
			}
		case opRequeue:
			now.home = homeTasks
		case opBury, opPark, opDamage:
			now.home = homeDead
		default:
			now = tailTask{}
		}
		a.tasks[o.id] = now
		return nil
	})
}

// task is where a task stands, before the next operation.
func (a *replayed) task(id outbox.ID) tailTask {
	if t, ok := a.tasks[id]; ok {
		return t
	}
	if l := load(a.r.b, id); l != nil {
		return tailTask{home: l.home.counts(), there: true}
	}
	return tailTask{}
}

// count counts what there will be.
func (a *replayed) count() (waiting, dead int64, err error) {
	waiting, dead = a.r.found[homeTasks].tasks, a.r.found[homeDead].tasks
	for id, t := range a.tasks {
		l := load(a.r.b, id)
		if l != nil && l.bad != nil && !(t.there && t.home == homeDead) {
			a.r.Damaged--
		}
		switch {
		case l == nil:
		case l.home == homeTasks:
			waiting--
		default:
			dead--
		}
		switch {
		case !t.there:
		case t.home == homeDead:
			dead++
		default:
			waiting++
		}
	}
	if waiting < 0 || dead < 0 {
		err = errors.New("more tasks are gone than there were")
	}
	return waiting, dead, err
}

// say reports what is lost.
func (a *replayed) say() {
	r := a.r
	r.lost = map[outbox.ID]bool{}
	r.LostWaiting, r.LostDead = -1, -1
	if r.v.hasUse {
		r.LostWaiting = r.v.usage[homeTasks].tasks - r.keptAs[homeTasks]
		r.LostDead = r.v.usage[homeDead].tasks - r.keptAs[homeDead]
	}
	if r.LostWaiting != 0 { // else it is an index that is wrong
		r.missed(func(id outbox.ID) {
			if t, ok := a.tasks[id]; !ok || t.home != homeNone && !t.there {
				r.lost[id] = true
			}
		})
	}
	for id, t := range a.tasks {
		if t.home != homeNone && !t.there {
			r.lost[id] = true
		}
	}
	r.sayLost()
}
