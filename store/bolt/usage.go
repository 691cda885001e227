package bolt

import "github.com/goutbox/goutbox/outbox"

// What a task costs, in bytes, is the same in the log, in memory and in the
// database, so that replaying records can not make the sum drift. It follows from
// the encoded task alone, which holds payload, headers, name and keys:
//
//	encoded task + 98 + name, plus the key's length + 48 for each Key, Unique and LatestOnly key
//
// 96 is the task's place in the tasks bucket (an element of 16 bytes, the ID, the
// CRC) and in the due bucket (16 and 24), and its part of page headers, branch pages
// and what is left free in a page; 2 and the name are the queue's part of the latter
// place, and count in the crowd too, but not in the legacy queue. 48 is an element of 16 bytes, the ID, a prefix,
// and the same part, in the keys or sole bucket. What a task gathers later, its
// schedule and at most [outbox.MaxFailures] errors, does not count.
const (
	taskOverhead = 96
	keyOverhead  = 48
)

// placeCost is what a task's place costs beyond what taskOverhead has of it.
func placeCost(q queueName, name string) int {
	if q.legacy {
		return 0
	}
	return 2 + len(name)
}

// costOf returns what a task costs.
func costOf(encoded, place int, key, unique, latest string) int64 {
	cost := encoded + taskOverhead + place
	for _, k := range [...]string{key, unique, latest} {
		if k != "" {
			cost += len(k) + keyOverhead
		}
	}
	return int64(cost)
}

// amount is how many tasks, and how many bytes they cost.
type amount struct{ tasks, bytes int64 }

// add adds b times sign, which is 1 or -1.
func (a *amount) add(b amount, sign int64) {
	a.tasks += sign * b.tasks
	a.bytes += sign * b.bytes
}

// usage is how much there is in the tasks bucket and how much in the dead one, or
// would be, and behind that how much of what waits is of each class. The amount of
// homeNone means nothing.
type usage [classAmounts + 3]amount

const classAmounts = 3

// class returns the amount that waits of one class.
func (u *usage) class(p outbox.Priority) *amount { return &u[classAmounts+int(p-outbox.Low)] }

// move moves a task from one home to another.
func (u *usage) move(h *header, from, to home) {
	u.put(h, from, -1)
	u.put(h, to, 1)
}

// none reports whether a difference is none.
func (u usage) none() bool {
	u[homeNone] = amount{}
	return u == usage{}
}

// put adds a task, or with a sign of -1 takes it away.
func (u *usage) put(h *header, at home, sign int64) {
	u[at].add(amount{1, h.cost}, sign)
	if at == homeTasks {
		u.class(h.queue.class).add(amount{1, h.cost}, sign)
	}
}

func (u *usage) add(b usage) {
	for i := range u {
		u[i].add(b[i], 1)
	}
}

// charge makes an entry count where it is going to be: among what waits, among the
// dead, or nowhere. It is called when the record that says so is queued, so what is
// not durable yet counts, and taken back when that record fails. When all of a record
// is charged, whoever queued it calls grantLocked. mu is held.
func (s *Store) charge(e *entry, to home) {
	if e.charged == to {
		return
	}
	s.use.move(&e.header, e.charged, to)
	e.charged = to
}

// chargeOp is charge for the operation of a record that was queued. mu is held.
func (s *Store) chargeOp(e *entry, o *op) {
	switch o.kind {
	case opDone, opSpend, opDrop:
		s.charge(e, homeNone)
	case opBury, opPark, opDamage:
		s.charge(e, homeDead)
	case opRequeue:
		s.charge(e, homeTasks)
	}
}

// unchargeOp takes chargeOp back. mu is held.
func (s *Store) unchargeOp(e *entry, o *op) {
	switch {
	case o.kind == opRequeue, o.wasDead:
		s.charge(e, homeDead)
	default:
		s.charge(e, homeTasks)
	}
}

// chargeCreate is charge for a new task, and the one that it replaces. Until it is
// durable Stats leaves it out. mu is held.
func (s *Store) chargeCreate(c *change) {
	s.charge(c.e, c.home())
	s.unsure.put(&c.e.header, c.home(), 1)
	if r := c.replaced; r != nil {
		s.charge(r, homeNone)
		s.unsure.put(&r.header, homeTasks, -1)
	}
}

// sureOf notes that a create record is durable, or has failed. mu is held.
func (s *Store) sureOf(c *change) {
	s.unsure.put(&c.e.header, c.home(), -1)
	if r := c.replaced; r != nil {
		s.unsure.put(&r.header, homeTasks, 1)
	}
}

// home is where a create record puts its task.
func (c *change) home() home {
	if c.died != nil {
		return homeDead
	}
	return homeTasks
}

// takeStock finds out what there is, at the end of recovery: what the database
// counts, and what the log says beyond that.
func (s *Store) takeStock(b buckets) error {
	use, known, err := readUsage(b.meta, s.path)
	if err == nil && !known { // there was no room to write it: see upgrade
		use, err = recount(b)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.overlay.entries {
		it := e.snapshot()
		e.charged = it.target().counts()
		use.move(&e.header, e.home.counts(), e.charged)
	}
	s.use = use
	return nil
}
