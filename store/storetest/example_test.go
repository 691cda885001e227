package storetest_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/storetest"
	"github.com/oklog/ulid/v2"
)

// harness is what a store of one's own has to say to be tested.
var harness = storetest.Harness{
	Open: func(t *testing.T) outbox.Store {
		return openFile(filepath.Join(t.TempDir(), "outbox.gob"))
	},
	Reopen: func(_ *testing.T, s outbox.Store) outbox.Store {
		s.Close()
		return openFile(s.(*fileStore).path)
	},
}

func TestFileStore(t *testing.T) { storetest.Run(t, harness) }

func TestFileStore_Synctest(t *testing.T) {
	h := harness
	h.Around = synctest.Test
	storetest.Run(t, h)
}

// fileStore keeps an outbox in one file, which it reads at the beginning of every
// call and writes anew at the end of those that change something. Such a store obeys every rule, and costs all of
// its content for each event. Two things are missing that no rule can see from
// here: it does not sync, so it is durable against the end of the process only,
// and it believes the wall clock, which P12 forbids.
type fileStore struct {
	path string

	mu        sync.Mutex // guards the file and the rest
	claims    map[outbox.ID]claim
	lastToken uint64
	turns     uint64
	closed    bool
}

// claim is what survives no restart: who has a task, and until when it is released.
type claim struct {
	token    uint64
	end      time.Time // of the lease
	released time.Time // due then, instead of Due
}

// content is what the file holds.
type content struct {
	Rows     []*row // by ID
	LastID   outbox.ID
	Counters outbox.Stats         // of what is gone
	Spent    map[string]time.Time // Unique keys that are taken after a delivery, and until when
	Gaps     gapNotes
}

// gapNotes is what a store without quotas has to know of gaps: they have one reason.
type gapNotes struct {
	Untold outbox.Untold
	Told   outbox.ID // the latest
}

type row struct {
	outbox.Task
	Due      time.Time
	Replaced bool // by a newer LatestOnly task, while in flight
}

func openFile(path string) *fileStore {
	return &fileStore{path: path, claims: map[outbox.ID]claim{}}
}

func (s *fileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// call reads the file, does f, and writes the file.
func (s *fileStore) call(ctx context.Context, f func(c *content, now time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c *content
	result := s.lookLocked(ctx, func(read *content, now time.Time) error {
		c = read
		return f(c, now)
	})
	if c == nil {
		return result
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(c); err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", b.Bytes(), 0o600); err != nil {
		return err
	}
	return errors.Join(result, os.Rename(s.path+".new", s.path))
}

// look reads the file and does f.
func (s *fileStore) look(ctx context.Context, f func(c *content, now time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookLocked(ctx, f)
}

func (s *fileStore) lookLocked(ctx context.Context, f func(c *content, now time.Time) error) error {
	if s.closed {
		return outbox.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now().Round(0)
	c, err := s.read(now)
	if err != nil {
		return err
	}
	return f(c, now)
}

// read returns the content of the file, with the claims entered.
func (s *fileStore) read(now time.Time) (*content, error) {
	c := new(content)
	b, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return nil, err
	}
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(c); err != nil {
		return nil, err
	}
	c.drop(outbox.ReasonCoalesced, func(r *row) bool {
		if r.State != outbox.Dead {
			r.State, r.DueAt, r.Token = outbox.Waiting, r.Due, 0
		}
		if held, ok := s.claims[r.ID]; ok {
			r.Token = held.token
			if !held.released.IsZero() {
				r.DueAt = held.released
			}
			if held.token != 0 && held.end.After(now) {
				r.State = outbox.InFlight
			}
		}
		return r.Replaced && r.State == outbox.Waiting
	})
	return c, nil
}

// drop removes and counts the rows that f chooses.
func (c *content) drop(why outbox.Reason, f func(r *row) bool) {
	before := len(c.Rows)
	c.Rows = slices.DeleteFunc(c.Rows, func(r *row) bool {
		gone := f(r)
		if gone {
			c.Gaps.Untold.Add(outbox.UntoldOf(r.Task, why))
		}
		return gone
	})
	c.Counters.DroppedBy.Add(why, uint64(before-len(c.Rows)))
}

func (c *content) find(id outbox.ID) *row {
	for _, r := range c.Rows {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// taken reports whether another task holds the Unique key, or did a moment ago.
func (c *content) taken(unique string, now time.Time) bool {
	return c.Spent[unique].After(now) || unique != "" && slices.ContainsFunc(c.Rows, func(r *row) bool {
		return r.Unique == unique && r.State != outbox.Dead
	})
}

// newer reports whether a task with a higher ID holds the LatestOnly key.
func (c *content) newer(latest string, id outbox.ID) bool {
	return latest != "" && slices.ContainsFunc(c.Rows, func(r *row) bool {
		return r.LatestOnly == latest && r.State != outbox.Dead && !r.Replaced && r.ID.Compare(id) > 0
	})
}

// replace drops what r takes the place of, now or when it comes back.
func (c *content) replace(r *row) {
	c.drop(outbox.ReasonCoalesced, func(old *row) bool {
		same := r.LatestOnly != "" && old.LatestOnly == r.LatestOnly
		old.Replaced = old.Replaced || same && old.State == outbox.InFlight
		return same && old.State == outbox.Waiting
	})
}

// outdone reports whether a newer task holds the LatestOnly key.
func (c *content) outdone(latest string) bool {
	return latest != "" && slices.ContainsFunc(c.Rows, func(r *row) bool {
		return r.LatestOnly == latest && r.State != outbox.Dead && !r.Replaced
	})
}

// parked reports whether an older task of the key has died and parked it.
func (c *content) parked(r *row) bool {
	return r.Key != "" && slices.ContainsFunc(c.Rows, func(old *row) bool {
		return old.Key == r.Key && old.ID.Compare(r.ID) < 0 && old.ParksKey()
	})
}

// heads returns what could be claimed if it were due, oldest due first.
func (c *content) heads() (heads []*row) {
	busy := map[string]bool{}
	for _, r := range c.Rows {
		busy[r.Key] = busy[r.Key] || r.State == outbox.InFlight
	}
	for _, r := range c.Rows {
		if r.State == outbox.Waiting && (r.Key == "" || !busy[r.Key]) {
			busy[r.Key] = true
			heads = append(heads, r)
		}
	}
	slices.SortStableFunc(heads, func(a, b *row) int { return a.DueAt.Compare(b.DueAt) })
	return heads
}

// due returns what can be claimed now, in the order of claiming within a class, and says
// when more can.
func (c *content) due(req outbox.ClaimRequest, now time.Time, got *outbox.Claimed) []*row {
	var due []*row
	for _, r := range c.heads() {
		if r.DueAt.After(now) && !r.ExpiresAt.IsZero() {
			got.NextIn = min(got.NextIn, r.ExpiresAt.Sub(now))
		}
		switch {
		case req.Match != nil && !req.Match(r.Name):
		case r.DueAt.After(now):
			got.NextIn = min(got.NextIn, r.DueAt.Sub(now))
		default:
			due = append(due, r)
		}
	}
	if req.Newest {
		slices.Reverse(due)
	}
	return due
}

func (s *fileStore) lease(r *row, d time.Duration, now time.Time) {
	if d <= 0 || d > outbox.MaxLease {
		d = outbox.MaxLease
	}
	s.lastToken++
	r.State, r.Token = outbox.InFlight, s.lastToken
	s.claims[r.ID] = claim{token: s.lastToken, end: now.Add(d), released: s.claims[r.ID].released}
}

func (s *fileStore) Create(ctx context.Context, tasks []outbox.Task) error {
	if outbox.TxFrom(ctx) != nil {
		return outbox.ErrTxUnsupported
	}
	return s.call(ctx, func(c *content, now time.Time) error {
		ids, last, unique, latest := map[outbox.ID]bool{}, c.LastID, map[string]bool{}, map[string]outbox.ID{}
		var rows []*row
		for i, t := range tasks {
			if t.ID.IsZero() {
				t.ID = nextID(last)
			}
			if t.ID.Time() > outbox.MaxIDTime && tasks[i].ID == t.ID {
				return outbox.ErrInvalid
			}
			if t.ID.Compare(last) > 0 {
				last = t.ID
			}
			if latest[t.LatestOnly].Compare(t.ID) > 0 || c.newer(t.LatestOnly, t.ID) {
				return outbox.ErrDuplicate
			}
			if t.LatestOnly != "" {
				latest[t.LatestOnly] = t.ID
			}
			if ids[t.ID] || c.find(t.ID) != nil || unique[t.Unique] || c.taken(t.Unique, now) {
				return outbox.ErrDuplicate
			}
			ids[t.ID], unique[t.Unique] = true, t.Unique != ""
			t.CreatedAt, t.DueAt, t.ExpiresAt = now, now.Add(max(t.Delay, 0)), time.Time{}
			if t.TTL > 0 {
				t.ExpiresAt = now.Add(t.TTL)
			}
			t.State, t.Token, t.Reason = outbox.Waiting, 0, ""
			r := &row{Task: t, Due: t.DueAt}
			r.Delay, r.TTL, r.Lease = 0, 0, 0
			rows = append(rows, r)
		}
		c.LastID = last
		c.Counters.Accepted += uint64(len(rows))
		for _, r := range rows {
			c.replace(r)
			c.Rows = append(c.Rows, r)
		}
		slices.SortFunc(c.Rows, func(a, b *row) int { return a.ID.Compare(b.ID) })
		for i, r := range rows {
			if tasks[i].Lease > 0 && !r.DueAt.After(now) && slices.Contains(c.heads(), r) && !c.parked(r) {
				s.lease(r, tasks[i].Lease, now)
				r.Attempt = r.Attempts + 1
			}
			delay, ttl, lease := tasks[i].Delay, tasks[i].TTL, tasks[i].Lease
			tasks[i] = r.Task
			tasks[i].Delay, tasks[i].TTL, tasks[i].Lease = delay, ttl, lease
		}
		return nil
	})
}

// tell makes the event that tells of a gap.
func (c *content) tell(now time.Time) {
	if r := c.find(c.Gaps.Told); c.Gaps.Untold.Count == 0 || r != nil && r.State != outbox.Dead {
		return
	}
	r := &row{Task: c.Gaps.Untold.Task(), Due: c.Gaps.Untold.DueAt(now)}
	c.LastID = nextID(c.LastID)
	r.ID, r.CreatedAt, r.DueAt = c.LastID, now, r.Due
	c.Rows = append(c.Rows, r)
	c.Counters.Accepted++
	c.Gaps = gapNotes{Told: r.ID}
}

func nextID(last outbox.ID) outbox.ID {
	if id := ulid.Make(); id.Time() > last.Time() {
		return id
	}
	for i := len(last) - 1; ; i-- {
		if last[i]++; last[i] != 0 {
			return last
		}
	}
}

func (s *fileStore) Claim(ctx context.Context, req outbox.ClaimRequest) (got outbox.Claimed, err error) {
	err = s.call(ctx, func(c *content, now time.Time) error {
		c.drop(outbox.ReasonExpired, func(r *row) bool {
			return r.State == outbox.Waiting && !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(now)
		})
		if req.Gaps && (req.Match == nil || req.Match(outbox.GapName)) {
			c.tell(now)
		}
		got.NextIn = outbox.Forever
		due := c.due(req, now, &got)
		size := 0
		for r := s.next(&due); r != nil; r = s.next(&due) {
			if (len(got.Tasks) == 0 || len(got.Tasks) < req.Max) && c.parked(r) {
				r.State, r.Reason = outbox.Dead, outbox.ReasonKeyParked
				due = c.due(req, now, &got) // with the next of its key
				continue
			}
			size += len(r.Payload)
			if n := len(got.Tasks); n > 0 && (n >= req.Max || req.MaxBytes > 0 && size > req.MaxBytes) {
				got.NextIn = 0
				return nil
			}
			s.turns++
			s.lease(r, req.Lease, now)
			r.Attempt = r.Attempts + 1
			got.Tasks = append(got.Tasks, r.Task)
		}
		for _, r := range c.Rows {
			if r.State == outbox.InFlight {
				got.NextIn = min(got.NextIn, s.claims[r.ID].end.Sub(now))
			}
		}
		return nil
	})
	return got, err
}

// next takes the task out of due whose turn it is.
func (s *fileStore) next(due *[]*row) *row {
	for _, class := range outbox.Turn(s.turns) {
		if i := slices.IndexFunc(*due, func(r *row) bool { return r.Priority == class }); i >= 0 {
			r := (*due)[i]
			*due = slices.Delete(*due, i, i+1)
			return r
		}
	}
	return nil
}

func (s *fileStore) Settle(ctx context.Context, outcomes []outbox.Outcome) error {
	return s.call(ctx, func(c *content, now time.Time) (err error) {
		for _, o := range outcomes {
			r := c.find(o.ID)
			if r == nil || r.Token == 0 || r.Token != o.Token {
				err = outbox.ErrLeaseLost
				continue
			}
			due := now.Add(max(o.Delay, 0))
			r.State, r.Token = outbox.Waiting, 0
			delete(s.claims, o.ID)
			switch o.Verdict {
			case outbox.Done:
				if c.Rows = slices.DeleteFunc(c.Rows, func(other *row) bool { return other == r }); r.UniqueFor > 0 {
					if c.Spent == nil {
						c.Spent = map[string]time.Time{}
					}
					c.Spent[r.Unique] = now.Add(r.UniqueFor)
				}
				c.Counters.Delivered++
			case outbox.Release:
				s.claims[o.ID] = claim{released: due}
			case outbox.Retry, outbox.Bury:
				if o.Spends() {
					r.Attempts++
				}
				r.Fail(o.Failure)
				r.Due = due
				if o.Verdict == outbox.Bury {
					r.State, r.Reason, r.Replaced = outbox.Dead, o.Reason, false
				}
			}
		}
		c.drop(outbox.ReasonCoalesced, func(r *row) bool { return r.Replaced && r.State == outbox.Waiting })
		return err
	})
}

func (s *fileStore) Requeue(ctx context.Context, ids ...outbox.ID) (n int, err error) {
	err = s.call(ctx, func(c *content, now time.Time) (err error) {
		for _, id := range ids {
			switch r := c.find(id); {
			case r == nil || r.State != outbox.Dead:
				err = errors.Join(err, outbox.ErrNotFound)
			case c.taken(r.Unique, now), c.outdone(r.LatestOnly):
				err = errors.Join(err, outbox.ErrDuplicate)
			default:
				r.State, r.Reason, r.Attempts, r.Due, r.ExpiresAt = outbox.Waiting, "", 0, now, time.Time{}
				c.Counters.Requeued++
				n++
			}
		}
		return err
	})
	return n, err
}

func (s *fileStore) Delete(ctx context.Context, ids ...outbox.ID) (n int, err error) {
	err = s.call(ctx, func(c *content, _ time.Time) (err error) {
		for _, id := range ids {
			switch r := c.find(id); {
			case r == nil:
				err = errors.Join(err, outbox.ErrNotFound)
			case r.State == outbox.InFlight:
				err = errors.Join(err, outbox.ErrInFlight)
			default:
				c.drop(outbox.ReasonDeleted, func(other *row) bool { return other == r })
				n++
			}
		}
		return err
	})
	return n, err
}

func (s *fileStore) Stats(ctx context.Context) (st outbox.Stats, err error) {
	err = s.look(ctx, func(c *content, _ time.Time) error {
		st = c.Counters
		st.Dropped = st.DroppedBy.Total()
		for _, r := range slices.Backward(c.Rows) {
			switch r.State {
			case outbox.Waiting:
				st.Pending++
				st.PendingByPriority.Add(r.Priority, 1)
				st.OldestPending = r.CreatedAt
			case outbox.InFlight:
				st.InFlight++
			case outbox.Dead:
				st.Dead++
			}
		}
		return nil
	})
	return st, err
}

func (s *fileStore) Tasks(ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
	return func(yield func(outbox.Task, error) bool) {
		var rows []*row
		err := s.look(ctx, func(c *content, _ time.Time) error {
			rows = c.Rows
			return nil
		})
		n := 0
		for _, r := range rows {
			if f.Match(r.Task) && (f.Limit <= 0 || n < f.Limit) {
				if n++; !yield(r.Task, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(outbox.Task{}, err)
		}
	}
}
