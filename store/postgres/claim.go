package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// claimAtOnce bounds what one claim takes, whatever the caller would.
const claimAtOnce = 2000

// pick is what a claim chooses.
type pick struct {
	req    outbox.ClaimRequest
	names  []string    // that match; nil = all
	ids    []outbox.ID // chosen, in the order of their turns
	passed []outbox.ID // not to be looked at again
	parked bool        // some became dead letters
	size   int64
	turns  uint64 // of the store, while choosing
	keyed  bool   // one of them has a key
	over   bool   // the caller's room is used up, and more was there
	again  bool   // what comes next has to be read first
	most   int
}

// Claim takes waiting tasks that are due and leases them to the caller. Before, it does what is to be
// done so that they are the right ones, see [work.sweep]. A claim does not wait for another
// one: what that looks at is passed over.
func (s *Store) Claim(ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
	got, err := s.claim(ctx, req)
	if err != nil {
		return outbox.Claimed{}, err
	}
	return got, nil
}

func (s *Store) claim(ctx context.Context, req outbox.ClaimRequest) (got outbox.Claimed, err error) {
	if err := s.usable(ctx); err != nil {
		return got, err
	}
	due, err := s.chores(ctx)
	if err != nil {
		return got, err
	}
	if due, err = s.sweep(ctx, due); err != nil {
		return got, err
	}
	if due.gaps && req.Gaps && (req.Match == nil || req.Match(outbox.GapName)) {
		if err := s.run(ctx, "claim", func(ctx context.Context, w *work) error { return w.tellGaps(ctx) }); err != nil {
			return got, err
		}
	}
	var p *pick
	s.turnLock.Lock()
	turns := s.turns
	s.turnLock.Unlock()
	err = s.run(ctx, "claim", func(ctx context.Context, w *work) (err error) {
		p = &pick{req: req, turns: turns, most: min(max(req.Max, 1), claimAtOnce)}
		got, err = w.claim(ctx, p)
		return err
	})
	if err != nil {
		return got, err
	}
	s.turnLock.Lock()
	s.turns += uint64(len(got.Tasks))
	s.turnLock.Unlock()
	if p.over || p.again {
		return got, nil
	}
	return got, s.nextIn(ctx, p, due.any(), &got)
}

// claim is Claim within a transaction.
func (w *work) claim(ctx context.Context, p *pick) (got outbox.Claimed, err error) {
	if p.names, err = w.matching(ctx, p.req); err != nil {
		return got, err
	}
	if p.names == nil || len(p.names) > 0 {
		for round := 0; ; round++ {
			if err := w.choose(ctx, p); err != nil {
				return got, err
			}
			if !p.again || round == sweeps {
				break
			}
		}
	}
	if len(p.ids) > 0 {
		if got.Tasks, err = w.lease(ctx, p); err != nil {
			return got, err
		}
	}
	w.lazy = !p.keyed // or after a crash of the server another of the key could be in flight beside it (P4)
	if p.parked {
		err = w.trimDead(ctx)
	}
	return got, err
}

// choose chooses among the candidates, class by class as [outbox.Turn] says, until there
// are none, or no room, or one whose key is parked. That becomes a dead letter, and the next of
// the key may be a candidate: p.again.
func (w *work) choose(ctx context.Context, p *pick) error {
	p.again = false
	room := p.most - len(p.ids) + 1 // one more than there is room for, to see whether there are more
	classes, err := w.candidates(ctx, p, room)
	if err != nil {
		return err
	}
	for {
		c, ok := p.next(classes)
		if !ok {
			return nil
		}
		if len(p.ids) >= p.most {
			p.over = true
			return nil
		}
		if c.parked {
			p.again = true
			return w.park(ctx, p, c)
		}
		if p.size += c.size; len(p.ids) > 0 && p.req.MaxBytes > 0 && p.size > int64(p.req.MaxBytes) {
			p.over = true
			return nil
		}
		id, err := parseID(c.id)
		if err != nil {
			return err
		}
		p.ids = append(p.ids, id)
		p.turns++
		p.keyed = p.keyed || c.key != ""
	}
}

// next takes the candidate whose turn it is.
func (p *pick) next(classes map[outbox.Priority][]candidate) (c candidate, ok bool) {
	for _, class := range outbox.Turn(p.turns) {
		if list := classes[class]; len(list) > 0 {
			classes[class] = list[1:]
			return list[0], true
		}
	}
	return c, false
}

const leaseSQL = `
UPDATE goutbox_tasks t SET state = 1, held = NULL, token = n.token, owner = $2,
	lease_end = clock_timestamp() + $3::bigint * interval '1 microsecond'
FROM (SELECT nextval('goutbox_tokens') AS token) n
WHERE t.id = ANY ($1::uuid[]) RETURNING ` + taskColumns

// lease gives the chosen tasks away, under a new token.
func (w *work) lease(ctx context.Context, p *pick) ([]outbox.Task, error) {
	d := p.req.Lease
	if d <= 0 || d > w.s.options.lease {
		d = w.s.options.lease
	}
	tasks := make([]outbox.Task, 0, len(p.ids))
	err := w.rows(ctx, leaseSQL, []any{idList(p.ids), w.s.owner, micros(d)}, func(scan func(...any) error) error {
		t, err := scanTask(scan)
		if err != nil {
			return err
		}
		w.ledger.at(outbox.Waiting, int(t.Priority), -1)
		w.ledger.at(outbox.InFlight, int(t.Priority), 1)
		tasks = append(tasks, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(tasks) != len(p.ids) {
		return nil, fmt.Errorf("%d of %d locked tasks were claimed: %w", len(tasks), len(p.ids), outbox.ErrCorrupt)
	}
	w.proof, w.token = uuidOf(tasks[0].ID), int64(tasks[0].Token)
	turn := make(map[outbox.ID]int, len(p.ids))
	for i, id := range p.ids {
		turn[id] = i
	}
	slices.SortFunc(tasks, func(a, b outbox.Task) int { return turn[a.ID] - turn[b.ID] })
	return tasks, nil
}

// nextIn says how long until the passing of time alone may make a task claimable. Where
// others have the rest in hand, that is soon.
func (s *Store) nextIn(ctx context.Context, p *pick, busy bool, got *outbox.Claimed) error {
	soon := 2*time.Millisecond + rand.N(6*time.Millisecond)
	got.NextIn = outbox.Forever
	if busy {
		got.NextIn = soon
	}
	text, args := nextSQL, []any(nil)
	if p.names != nil {
		text, args = nextNamedSQL, []any{textList(p.names)}
	}
	var seconds sql.NullFloat64
	err := s.read(ctx, "claim", func(ctx context.Context, w *work) error { return w.row(ctx, text, args, &seconds) })
	switch {
	case err != nil && len(got.Tasks) > 0:
		got.NextIn = 0 // what is claimed must not be lost for want of a guess
		return nil
	case err != nil:
		return err
	case !seconds.Valid:
		return nil
	case seconds.Float64 <= 0:
		got.NextIn = min(got.NextIn, soon)
	default:
		got.NextIn = min(got.NextIn, duration(seconds.Float64))
	}
	return nil
}
