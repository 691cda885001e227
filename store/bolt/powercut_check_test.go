//go:build linux

package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"go.etcd.io/bbolt"
)

// This file looks at a store: what it holds, and whether it still works.

// appBucket is where the recorded program keeps data of its own.
var appBucket = []byte("application")

// observe says what is in a store.
func observe(s *bolt.Store) (f inventory, err error) {
	ctx := context.Background()
	for t, err := range s.Tasks(ctx, outbox.Filter{}) {
		if err != nil {
			return f, err
		}
		f.tasks = append(f.tasks, factTask{
			Name: t.Name, Key: t.Key, Unique: t.Unique, Latest: t.LatestOnly, ID: t.ID, Payload: len(t.Payload),
			Attempts: t.Attempts, Failures: len(t.Failures), Dead: t.State == outbox.Dead, Reason: t.Reason,
			Damaged: !bytes.Equal(t.Payload, payloadOf(t.Name, len(t.Payload))),
		})
	}
	if f.stats, err = s.Stats(ctx); err != nil {
		return f, err
	}
	if _, err = s.Audit(ctx); err != nil { // P5
		return f, err
	}
	err = s.Update(ctx, func(tx *bbolt.Tx) error {
		if b := tx.Bucket(appBucket); b != nil {
			err := b.ForEach(func(k, _ []byte) error {
				f.apps = append(f.apps, string(k))
				return nil
			})
			if err != nil {
				return err
			}
		}
		for err := range tx.Check() {
			return fmt.Errorf("bbolt's own check: %w", err)
		}
		return errNothing
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return f, err
}

// errNothing rolls a transaction back that had only come to look.
var errNothing = errors.New("nothing to commit")

// payloadOf makes a payload that says of every byte where it belongs.
func payloadOf(name string, size int) []byte {
	return bytes.Repeat([]byte(name+" "), size/(len(name)+1)+1)[:size]
}

// met counts what recoveries have met. A branch that no power cut has led to is a
// branch that was not tested.
type met struct {
	states, replayed, torn, olderMeta, unfinished, fresh atomic.Int64
}

func (m *met) String() string {
	return fmt.Sprintf("%d states: %d replayed the log, %d cut a torn tail, %d fell back to the older meta page, %d had a file under a temporary name, %d began anew",
		m.states.Load(), m.replayed.Load(), m.torn.Load(), m.olderMeta.Load(), m.unfinished.Load(), m.fresh.Load())
}

// Handle makes met the handler of a store's log.
func (m *met) Handle(_ context.Context, r slog.Record) error {
	switch {
	case strings.Contains(r.Message, "torn tail"):
		m.torn.Add(1)
	case strings.HasPrefix(r.Message, "outbox: recovered"):
		m.replayed.Add(1)
	}
	return nil
}
func (m *met) Enabled(context.Context, slog.Level) bool { return true }
func (m *met) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m *met) WithGroup(string) slog.Handler            { return m }

// check writes an image into a folder that is not there yet, opens the store in it,
// holds it against right, and uses it. It returns what is wrong.
func (m *met) check(img image, dir string, last outbox.ID, right func(inventory) string) (err error) {
	defer os.RemoveAll(dir)
	// A database that was cut off is mapped further than it goes.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := img.write(dir); err != nil {
		return err
	}
	if img.unfinished() {
		m.unfinished.Add(1)
	}
	if len(img.files[filepath.Join(storeFolder, "outbox.db")]) == 0 {
		m.fresh.Add(1)
	}
	m.states.Add(1)
	return m.useStore(filepath.Join(dir, storeFolder), last, right)
}

func (m *met) useStore(dir string, last outbox.ID, right func(inventory) string) error {
	later := func() time.Time { return time.Now().Add(48 * time.Hour) } // so that everything is due
	open := func() (*bolt.Store, error) {
		return bolt.Open(dir, bolt.WithLogger(slog.New(m)), bolt.WithSegmentBytes(64<<10), bolt.WithWallClock(later))
	}
	s, err := open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close()
	f, err := observe(s)
	if err != nil {
		return err
	}
	if why := right(f); why != "" {
		return errors.New(why)
	}
	if err := deliverAll(s, f); err != nil {
		return err
	}
	extra := []outbox.Task{{Event: outbox.Event{Name: "after", Key: "k0"}, MaxAttempts: 1}}
	if err := s.Create(context.Background(), extra); err != nil {
		return err
	}
	if extra[0].ID.Compare(last) <= 0 {
		return fmt.Errorf("P4: the next ID, %s, is not above %s", extra[0].ID, last)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = open(); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	defer s.Close()
	again, err := observe(s)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(f.tasks, func(t factTask) bool { return !t.Dead })
	rest = append(rest, factTask{Name: "after", Key: "k0", ID: extra[0].ID})
	if !slices.Equal(again.tasks, rest) {
		return fmt.Errorf("after everything was delivered and a clean close: %+v", again.tasks)
	}
	return s.Close()
}

// deliverAll delivers whatever waits, and looks at the order.
func deliverAll(s *bolt.Store, f inventory) error {
	ctx := context.Background()
	order := map[string][]outbox.ID{}
	for {
		c, err := s.Claim(ctx, outbox.ClaimRequest{Max: 1000, Lease: time.Hour})
		if err != nil {
			return err
		}
		if len(c.Tasks) == 0 {
			break
		}
		var outcomes []outbox.Outcome
		for _, t := range c.Tasks {
			order[t.Key] = append(order[t.Key], t.ID)
			outcomes = append(outcomes, outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Done})
		}
		if err := s.Settle(ctx, outcomes); err != nil {
			return err
		}
	}
	for key, ids := range order {
		if key != "" && !slices.IsSortedFunc(ids, outbox.ID.Compare) {
			return fmt.Errorf("P4: key %s was delivered in the order %v", key, ids)
		}
	}
	st, err := s.Stats(ctx)
	if err != nil {
		return err
	}
	if st.Pending+st.InFlight != 0 || st.Accepted != st.Delivered+st.Dead+st.Dropped || st.Dead != f.stats.Dead {
		return fmt.Errorf("P5: after everything was delivered: %+v", st)
	}
	return nil
}
