package storetest_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// brokenStore is one way to get it wrong, and the rules that must notice.
type brokenStore struct {
	name  string
	rules []int
	make  func() *broken
}

// brokenStores are in the order of the first rule that each breaks.
var brokenStores = []brokenStore{
	{"loses headers", []int{1, 7}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Headers = nil })}
	}},
	{"loses a task in a restart", []int{2, 10}, func() *broken {
		return &broken{restart: func(s outbox.Store) {
			if all := list(s, outbox.Filter{}); len(all) > 0 {
				_ = s.(*fileStore).call(context.Background(), func(c *content, _ time.Time) error {
					c.Rows = c.Rows[:len(c.Rows)-1]
					return nil
				})
			}
		}}
	}},
	{"accepts one by one", []int{3}, func() *broken {
		return &broken{create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
			for i := range tasks {
				if err := s.Create(ctx, tasks[i:i+1]); err != nil {
					return err
				}
			}
			return nil
		}}
	}},
	{"counts IDs down", []int{4, 51}, func() *broken {
		var mu sync.Mutex // guards id
		id := outbox.ID{1}
		return &broken{create: each(func(t *outbox.Task) {
			mu.Lock()
			defer mu.Unlock()
			if t.ID.IsZero() {
				if id[15]--; id[15] == 0xff {
					id[14]--
				}
				t.ID = id
			}
		})}
	}},
	{"assigns IDs itself", []int{5, 3}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.ID = outbox.ID{} })}
	}},
	{"shares payloads", []int{6}, func() *broken {
		shared := memo[outbox.ID, []byte]{}
		return &broken{
			create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
				err := s.Create(ctx, tasks)
				for _, t := range tasks {
					shared.put(t.ID, t.Payload)
				}
				return err
			},
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				got, err := s.Claim(ctx, req)
				for i := range got.Tasks {
					got.Tasks[i].Payload = shared.get(got.Tasks[i].ID)
				}
				return got, err
			},
		}
	}},
	{"keeps text only", []int{7, 22}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Key = strings.ToValidUTF8(t.Key, "\uFFFD") })}
	}},
	{"is early", []int{8, 19}, func() *broken {
		return &broken{
			create: each(func(t *outbox.Task) { t.Delay = min(t.Delay, time.Millisecond) }),
			settle: eachOutcome(func(o *outbox.Outcome) { o.Delay = min(o.Delay, time.Millisecond) }),
		}
	}},
	{"claims nothing when it creates", []int{9}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Lease = 0 })}
	}},
	{"takes the newest first", []int{10}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			got, err := s.Claim(ctx, req)
			slices.Reverse(got.Tasks)
			return got, err
		}}
	}},
	{"has no limits", []int{11, 12}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Max, req.MaxBytes = req.Max*2, 0
			return s.Claim(ctx, req)
		}}
	}},
	{"keeps no lease", []int{13, 50}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			got, err := s.Claim(ctx, req)
			putBack(s, got.Tasks)
			return got, err
		}}
	}},
	{"leases for ever", []int{14, 37}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Lease = 0
			return s.Claim(ctx, req)
		}}
	}},
	{"wants outcomes in time", []int{15}, func() *broken {
		ends := memo[uint64, time.Time]{}
		return &broken{
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				got, err := s.Claim(ctx, req)
				for _, t := range got.Tasks {
					ends.put(t.Token, time.Now().Add(req.Lease))
				}
				return got, err
			},
			settle: eachOutcome(func(o *outbox.Outcome) {
				if end := ends.get(o.Token); !end.IsZero() && !time.Now().Before(end) {
					o.Token = 0
				}
			}),
		}
	}},
	{"always says there is more", []int{16, 12}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			got, err := s.Claim(ctx, req)
			got.NextIn = 0
			return got, err
		}}
	}},
	{"knows nothing of leases to come", []int{14, 16}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			got, err := s.Claim(ctx, req)
			if len(got.Tasks) > 0 {
				got.NextIn = outbox.Forever
			}
			return got, err
		}}
	}},
	{"keeps claims across a restart", []int{17, 21}, func() *broken {
		return &broken{restart: func(s outbox.Store) {
			_, _ = s.Claim(context.Background(), outbox.ClaimRequest{Max: 1000})
		}}
	}},
	{"mixes up keys", []int{18, 19, 21, 23, 50}, func() *broken {
		keys := memo[outbox.ID, string]{}
		restore := func(t outbox.Task) outbox.Task {
			t.Key = keys.get(t.ID)
			return t
		}
		return &broken{
			create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
				err := each(func(t *outbox.Task) { t.Key = "" })(s, ctx, tasks)
				for _, t := range tasks {
					keys.put(t.ID, t.Key)
				}
				return err
			},
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				got, err := s.Claim(ctx, req)
				for i, t := range got.Tasks {
					got.Tasks[i] = restore(t)
				}
				return got, err
			},
			tasks: func(s outbox.Store, ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
				return func(yield func(outbox.Task, error) bool) {
					for t, err := range s.Tasks(ctx, f) {
						if !yield(restore(t), err) {
							return
						}
					}
				}
			},
		}
	}},
	{"lets the dead block their key", []int{20}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			blocked := map[string]bool{}
			for _, t := range list(s, outbox.Filter{States: []outbox.State{outbox.Dead}}) {
				blocked[t.Key] = t.Key != ""
			}
			got, err := s.Claim(ctx, req)
			var back []outbox.Task
			got.Tasks = slices.DeleteFunc(got.Tasks, func(t outbox.Task) bool {
				if blocked[t.Key] {
					back = append(back, t)
				}
				return blocked[t.Key]
			})
			putBack(s, back)
			return got, err
		}}
	}},
	{"does not believe Done", []int{24}, func() *broken {
		return &broken{settle: eachOutcome(func(o *outbox.Outcome) {
			if o.Verdict == outbox.Done {
				o.Verdict, o.Delay = outbox.Release, time.Hour
			}
		})}
	}},
	{"Retry is free", []int{25, 26, 30}, func() *broken {
		return &broken{settle: eachOutcome(func(o *outbox.Outcome) {
			if o.Verdict == outbox.Retry {
				o.Verdict = outbox.Release
			}
		})}
	}},
	{"Release is not", []int{27}, func() *broken {
		return &broken{
			settle: eachOutcome(func(o *outbox.Outcome) {
				if o.Verdict == outbox.Release {
					o.Verdict = outbox.Retry
				}
			}),
		}
	}},
	{"Bury means Done", []int{28, 31}, func() *broken {
		return &broken{settle: eachOutcome(func(o *outbox.Outcome) {
			if o.Verdict == outbox.Bury {
				o.Verdict = outbox.Done
			}
		})}
	}},
	{"nobody's attempt is one", []int{28}, func() *broken {
		return &broken{settle: eachOutcome(func(o *outbox.Outcome) {
			if o.Reason == outbox.ReasonUnhandled {
				o.Reason = outbox.ReasonExhausted
			}
		})}
	}},
	{"takes any token", []int{29, 14}, func() *broken {
		current := memo[outbox.ID, uint64]{}
		return &broken{
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				got, err := s.Claim(ctx, req)
				for _, t := range got.Tasks {
					current.put(t.ID, t.Token)
				}
				return got, err
			},
			settle: eachOutcome(func(o *outbox.Outcome) { o.Token = current.get(o.ID) }),
		}
	}},
	{"forgets what was said", []int{30, 25}, func() *broken {
		return &broken{settle: eachOutcome(func(o *outbox.Outcome) { o.Failure.Error = "failed" })}
	}},
	{"Requeue does nothing", []int{31, 23, 92}, func() *broken {
		return &broken{requeue: func(_ outbox.Store, _ context.Context, ids []outbox.ID) (int, error) { return len(ids), nil }}
	}},
	{"Requeue is silent", []int{32, 103}, func() *broken {
		return &broken{requeue: func(s outbox.Store, ctx context.Context, ids []outbox.ID) (int, error) {
			n, err := s.Requeue(ctx, ids...)
			return n, swallow(err, outbox.ErrDuplicate)
		}}
	}},
	{"Delete is silent", []int{33}, func() *broken {
		return &broken{remove: func(s outbox.Store, ctx context.Context, ids []outbox.ID) (int, error) {
			n, err := s.Delete(ctx, ids...)
			return n, swallow(err, outbox.ErrInFlight)
		}}
	}},
	{"forgets Unique", []int{34, 32, 3}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Unique = "" })}
	}},
	{"keeps Unique keys for ever", []int{35, 102}, func() *broken {
		taken := memo[string, bool]{}
		return &broken{create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
			for _, t := range tasks {
				if taken.get(t.Unique) {
					return outbox.ErrDuplicate
				}
			}
			err := s.Create(ctx, tasks)
			for _, t := range tasks {
				taken.put(t.Unique, t.Unique != "")
			}
			return err
		}}
	}},
	{"forgets LatestOnly", []int{36, 37, 38}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.LatestOnly = "" })}
	}},
	{"replaces the dead", []int{38}, func() *broken {
		return &broken{create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
			for _, old := range list(s, outbox.Filter{States: []outbox.State{outbox.Dead}}) {
				for _, t := range tasks {
					if t.LatestOnly != "" && t.LatestOnly == old.LatestOnly {
						_, _ = s.Delete(ctx, old.ID)
					}
				}
			}
			return s.Create(ctx, tasks)
		}}
	}},
	{"lets nothing expire", []int{39, 40}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.TTL = min(t.TTL, 0) })}
	}},
	{"filters by name alone", []int{41, 42}, func() *broken {
		return &broken{tasks: func(s outbox.Store, ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
			return s.Tasks(ctx, outbox.Filter{Name: f.Name, After: f.After})
		}}
	}},
	{"lists state by state", []int{43, 41}, func() *broken {
		return &broken{tasks: func(s outbox.Store, ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
			return func(yield func(outbox.Task, error) bool) {
				for _, state := range []outbox.State{outbox.Waiting, outbox.InFlight, outbox.Dead} {
					if !f.Wants(state) {
						continue
					}
					one := f
					one.States = []outbox.State{state}
					for t, err := range s.Tasks(ctx, one) {
						if !yield(t, err) {
							return
						}
					}
				}
			}
		}}
	}},
	{"holds its lock while listing", []int{44}, func() *broken {
		var once sync.Once
		lock, closed := make(chan struct{}, 1), make(chan struct{})
		hold := func() (release func()) {
			select {
			case lock <- struct{}{}:
				return func() { <-lock }
			case <-closed: // so that the test can end
				return func() {}
			}
		}
		return &broken{
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				defer hold()()
				return s.Claim(ctx, req)
			},
			tasks: func(s outbox.Store, ctx context.Context, f outbox.Filter) iter.Seq2[outbox.Task, error] {
				return func(yield func(outbox.Task, error) bool) {
					defer hold()()
					s.Tasks(ctx, f)(yield)
				}
			},
			close: func(s outbox.Store) error {
				once.Do(func() { close(closed) })
				return s.Close()
			},
		}
	}},
	{"counts too much", []int{45, 1, 24}, func() *broken {
		return &broken{stats: func(s outbox.Store, ctx context.Context) (outbox.Stats, error) {
			st, err := s.Stats(ctx)
			st.Accepted++
			return st, err
		}}
	}},
	{"never closes", []int{46}, func() *broken {
		return &broken{close: func(outbox.Store) error { return nil }}
	}},
	{"does not look at its context", []int{47, 48}, func() *broken {
		return &broken{create: func(s outbox.Store, _ context.Context, tasks []outbox.Task) error {
			return s.Create(context.Background(), tasks)
		}}
	}},
	{"knows no classes", []int{52, 53, 54, 59}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Priority = outbox.Normal })}
	}},
	{"counts classes wrong", []int{54, 45}, func() *broken {
		return &broken{stats: func(s outbox.Store, ctx context.Context) (outbox.Stats, error) {
			st, err := s.Stats(ctx)
			st.PendingByPriority = outbox.ByPriority{High: st.Pending}
			return st, err
		}}
	}},
	{"matches anything", []int{55, 56}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Match = nil
			return s.Claim(ctx, req)
		}}
	}},
	{"looks at the first alone", []int{55}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			match := req.Match
			req.Match = nil
			got, err := s.Claim(ctx, req)
			var back []outbox.Task
			got.Tasks = slices.DeleteFunc(got.Tasks, func(t outbox.Task) bool {
				no := match != nil && !match(t.Name)
				if no {
					back = append(back, t)
				}
				return no
			})
			putBack(s, back)
			return got, err
		}}
	}},
	{"takes the oldest first", []int{57, 59}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Newest = false
			return s.Claim(ctx, req)
		}}
	}},
	{"takes the newest of a key", []int{58}, func() *broken {
		keys := memo[string, string]{}
		return &broken{
			create: func(s outbox.Store, ctx context.Context, tasks []outbox.Task) error {
				for _, t := range tasks {
					keys.put(t.Name, t.Key)
				}
				return each(func(t *outbox.Task) { t.Key = "" })(s, ctx, tasks)
			},
			claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
				got, err := s.Claim(ctx, req)
				for i := range got.Tasks {
					got.Tasks[i].Key = keys.get(got.Tasks[i].Name)
				}
				return got, err
			},
		}
	}},
	{"never tells", []int{49}, func() *broken {
		return &broken{notify: func(func()) (stop func()) { return func() {} }}
	}},
	{"does not tell of gaps", []int{110, 111}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Gaps = false
			return s.Claim(ctx, req)
		}}
	}},
	{"tells unasked", []int{110}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			req.Gaps = true
			return s.Claim(ctx, req)
		}}
	}},
	{"makes a gap beside another", []int{111, 114}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			got, err := s.Claim(ctx, req)
			forgetGaps(s, func(g *gapNotes) { g.Told = outbox.ID{} })
			return got, err
		}}
	}},
	{"loses gaps in a restart", []int{112}, func() *broken {
		return &broken{restart: func(s outbox.Store) { forgetGaps(s, func(g *gapNotes) { g.Untold = outbox.Untold{} }) }}
	}},
	{"tells those who do not listen", []int{113}, func() *broken {
		return &broken{claim: func(s outbox.Store, ctx context.Context, req outbox.ClaimRequest) (outbox.Claimed, error) {
			if match := req.Match; match != nil {
				req.Match = func(name string) bool { return name == outbox.GapName || match(name) }
			}
			return s.Claim(ctx, req)
		}}
	}},
	{"knows no classes", []int{115}, func() *broken {
		return &broken{create: each(func(t *outbox.Task) { t.Priority = outbox.Normal })}
	}},
}

// forgetGaps changes what a store knows of gaps.
func forgetGaps(s outbox.Store, f func(*gapNotes)) {
	_ = s.(*fileStore).call(context.Background(), func(c *content, _ time.Time) error {
		f(&c.Gaps)
		return nil
	})
}
