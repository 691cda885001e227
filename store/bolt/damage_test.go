package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
)

// boltPages returns the page size of a bbolt file and how many pages it has in use.
func boltPages(t testing.TB, file []byte) (size, used int) {
	t.Helper()
	size = os.Getpagesize()
	for _, at := range []int{16, size + 16} {
		used = max(used, int(binary.NativeEndian.Uint64(file[at+40:])))
	}
	return size, used
}

// victim is a store whose files are to be damaged, and what it must hold.
type victim struct {
	dir   string
	file  []byte // the database, without the unused part at its end
	size  int    // of a page
	pages int
	names []string // waiting and dead
}

func newVictim(t *testing.T, crash bool) *victim {
	t.Helper()
	v := &victim{dir: t.TempDir()}
	origin := t.TempDir()
	s, err := bolt.Open(origin, quiet, bolt.WithSegmentBytes(64<<10))
	require.NoError(t, err)
	mixed(t, s)
	v.names = allNames(t, s)
	if crash {
		s.Freeze(func() { copyDir(t, origin, v.dir) })
	}
	require.NoError(t, s.Close())
	if !crash {
		copyDir(t, origin, v.dir)
	}
	path := filepath.Join(v.dir, "outbox.db")
	v.file, err = os.ReadFile(path)
	require.NoError(t, err)
	v.size, v.pages = boltPages(t, v.file)
	v.file = v.file[:v.size*v.pages]
	require.NoError(t, os.Remove(path))
	return v
}

func allNames(t testing.TB, s *bolt.Store) (names []string) {
	t.Helper()
	for task, err := range s.Tasks(t.Context(), outbox.Filter{}) {
		require.NoError(t, err)
		names = append(names, task.Name)
	}
	slices.Sort(names)
	return names
}

// ordeal is what a store does with damaged files.
type ordeal struct {
	step string // that it is at
	errs []error
	seen []string
}

// all opens the store and does everything with it that there is to do.
func (o *ordeal) all(dir string, opts []bolt.Option) error {
	ctx := context.Background()
	failed := func(step string, err error) bool {
		if err != nil {
			o.errs = append(o.errs, fmt.Errorf("%s: %w", step, err))
		}
		return err != nil
	}
	o.step = "open"
	s, err := bolt.Open(dir, append(opts, quiet, bolt.WithSegmentBytes(64<<10))...)
	if failed("open", err) {
		return nil
	}
	right := func(task outbox.Task) error {
		if task.State != outbox.InFlight && task.Reason == outbox.ReasonDamaged {
			return nil // it says that it may be wrong
		}
		if !bytes.Equal(task.Payload, madePayload(task.Name)) {
			return fmt.Errorf("wrong payload of %q", task.Name)
		}
		return nil
	}
	o.step = "list"
	for task, err := range s.Tasks(ctx, outbox.Filter{}) {
		if failed("list", err) {
			break
		}
		if err := right(task); err != nil {
			return err
		}
		o.seen = append(o.seen, task.Name)
	}
	slices.Sort(o.seen)
	for round := range 1000 {
		o.step = "claim"
		c, err := s.Claim(ctx, outbox.ClaimRequest{Max: 100, Lease: time.Hour})
		if failed("claim", err) || len(c.Tasks) == 0 {
			break
		}
		outcomes := make([]outbox.Outcome, 0, len(c.Tasks))
		for i, task := range c.Tasks {
			if err := right(task); err != nil {
				return err
			}
			one := outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Done}
			if (i+round)%4 == 0 {
				one = outbox.Outcome{ID: task.ID, Token: task.Token, Verdict: outbox.Retry, Delay: time.Hour}
			}
			outcomes = append(outcomes, one)
		}
		o.step = "settle"
		if failed("settle", s.Settle(ctx, outcomes)) {
			break
		}
	}
	o.step = "audit"
	_, err = s.Audit(ctx)
	failed("audit", err)
	o.step = "checkpoint"
	if !failed("checkpoint", s.Flush()) {
		o.step = "audit after it"
		_, err = s.Audit(ctx)
		failed("audit after it", err)
	}
	o.step = "close"
	failed("close", s.Close())
	return nil
}

// try puts a damaged database in place and checks that nothing worse than an error
// comes of it, and that Verify sees whatever makes a call fail.
func (v *victim) try(t *testing.T, dir, what string, file []byte, opts ...bolt.Option) {
	t.Helper()
	require.NoError(t, os.RemoveAll(dir))
	copyDir(t, v.dir, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox.db"), file, 0o600))

	type result struct {
		report bolt.Report
		err    error
		wrong  error
		o      ordeal
	}
	verified, ended := make(chan struct{}), make(chan *result, 1)
	go func() {
		r := &result{}
		r.report, r.err = bolt.Verify(dir, quiet)
		close(verified)
		r.wrong = r.o.all(dir, opts)
		ended <- r
	}()
	var r *result
	select {
	case r = <-ended:
	case <-time.After(30 * time.Second):
		select {
		case <-verified:
			require.Fail(t, "a call does not return", what)
		default:
			require.Fail(t, "Verify does not return", what)
		}
	}
	require.NoError(t, r.err, what)
	require.NoError(t, r.wrong, what)
	sentinels := []error{outbox.ErrCorrupt, outbox.ErrMismatch, outbox.ErrVersion}
	if len(opts) > 0 { // behind the guard bbolt may copy a key whose length is damaged, of hundreds of megabytes
		sentinels = append(sentinels, outbox.ErrDiskFull)
	}
	for _, err := range r.o.errs {
		known := false
		for _, sentinel := range sentinels {
			known = known || errors.Is(err, sentinel)
		}
		require.True(t, known, "%s: %v", what, err)
	}
	if len(r.o.errs) > 0 {
		require.False(t, r.report.OK(), "%s: Verify does not see the cause of %v\n%s", what, r.o.errs, r.report.String())
		return
	}
	require.Len(t, r.o.seen, len(v.names), "%s: tasks are missing, and no call says so: %v", what, r.o.seen)
	if r.report.OK() {
		require.Equal(t, v.names, r.o.seen, "%s: missing, and nobody says so", what)
	}
	if bytes.Equal(file, v.file) {
		require.True(t, r.report.OK(), "%s: %s", what, r.report.String())
	}
}

// damages yields every way in which the database is damaged, seeded.
func (v *victim) damages(yield func(what string, file []byte) bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	changed := func(f func(b []byte)) []byte {
		b := bytes.Clone(v.file)
		f(b)
		return b
	}
	if !yield("as it was", v.file) {
		return
	}
	const sector = 512
	for at := 0; at < len(v.file); at += sector {
		if !yield(fmt.Sprintf("sector at %d zeroed", at), changed(func(b []byte) { clear(b[at : at+sector]) })) ||
			!yield(fmt.Sprintf("sector at %d garbled", at), changed(func(b []byte) {
				for i := range sector {
					b[at+i] = byte(rng.Uint32())
				}
			})) {
			return
		}
	}
	page := func(b []byte, n int) []byte { return b[n*v.size : (n+1)*v.size] }
	for n := range v.pages {
		other := rng.IntN(v.pages)
		if !yield(fmt.Sprintf("page %d zeroed", n), changed(func(b []byte) { clear(page(b, n)) })) ||
			!yield(fmt.Sprintf("pages %d and %d swapped", n, other), changed(func(b []byte) {
				copy(page(b, n), page(v.file, other))
				copy(page(b, other), page(v.file, n))
			})) ||
			!yield(fmt.Sprintf("page %d over page %d, under its number", other, n), changed(func(b []byte) {
				copy(page(b, n), page(v.file, other))
				binary.NativeEndian.PutUint64(page(b, n), uint64(n))
			})) ||
			!yield(fmt.Sprintf("cut at page %d", n), v.file[:n*v.size]) ||
			!yield(fmt.Sprintf("cut within page %d", n), v.file[:n*v.size+v.size/2]) {
			return
		}
	}
	for range 2000 {
		n, at := rng.IntN(v.pages), 0
		if at = n * v.size; rng.IntN(2) == 0 { // headers and elements matter most
			at += rng.IntN(128)
		} else {
			at += rng.IntN(v.size)
		}
		bit := rng.IntN(8)
		if !yield(fmt.Sprintf("bit %d at %d flipped", bit, at), changed(func(b []byte) { b[at] ^= 1 << bit })) {
			return
		}
	}
}

// A large store has more pages than Open looks at. What bbolt then makes of a damaged
// one is contained. Circles of pages are not: see guardDatabase.
func TestDamage_BehindTheGuard(t *testing.T) {
	v, n := newVictim(t, true), 0
	dir := filepath.Join(t.TempDir(), "store")
	for what, file := range v.damages {
		n++
		if os.Getenv("GOUTBOX_TORTURE") == "" && n%43 != 0 || strings.Contains(what, "under its number") {
			continue
		}
		v.try(t, dir, what, file, bolt.WithGuard(4))
	}
}

// P11, R34: whatever is wrong with the database, there is an error that says so: no
// panic, no hang, no crash, no wrong payload, and nothing that is missing in silence.
func TestDamage_Matrix(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			v, n := newVictim(t, crash), 0
			t.Logf("%d pages", v.pages)
			dir := filepath.Join(t.TempDir(), "store")
			begin := time.Now()
			for what, file := range v.damages {
				n++
				if os.Getenv("GOUTBOX_TORTURE") == "" && (n-1)%43 != 0 {
					continue
				}
				v.try(t, dir, what, file)
			}
			t.Logf("%d ways, in %v", n, time.Since(begin))
		})
	}
}
