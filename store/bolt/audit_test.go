package bolt_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// A store with something in every bucket agrees with itself, in memory, in the
// database, and half and half.
func TestStore_Audit(t *testing.T) {
	s := open(t, t.TempDir())
	fillAll(t, s)
	for _, step := range []func() error{func() error { return nil }, s.Flush, s.Lighten, s.Flush} {
		require.NoError(t, step())
		a, err := s.Audit(t.Context())
		require.NoError(t, err)
		st := stats(t, s)
		require.EqualValues(t, 9, a.Ledger.Accepted)
		require.Equal(t, a.Ledger, outbox.Stats{Accepted: st.Accepted, Delivered: st.Delivered, Pending: st.Pending, InFlight: st.InFlight,
			Dead: st.Dead, Dropped: st.Dropped, DroppedBy: st.DroppedBy, Requeued: st.Requeued})
		require.EqualValues(t, 6, a.Waiting)
		require.EqualValues(t, 1, a.InFlight)
		require.EqualValues(t, 1, a.Dead)
	}
	require.NoError(t, s.Close())
	_, err := s.Audit(t.Context())
	require.ErrorIs(t, err, outbox.ErrClosed)
}

// fillAll accepts nine tasks: one is delivered, one dropped, one dead, one in flight,
// five wait.
func fillAll(t *testing.T, s outbox.Store) {
	t.Helper()
	named := func(name string) outbox.Event { return outbox.Event{Name: name, Payload: []byte(name)} }
	create(t, s, outbox.Task{Event: named("delivered")}, outbox.Task{Event: named("dead")}, outbox.Task{Event: named("retried")}, outbox.Task{Event: named("in flight")})
	got := claim(t, s, 4)
	require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{
		{ID: got[0].ID, Token: got[0].Token, Verdict: outbox.Done},
		{ID: got[1].ID, Token: got[1].Token, Verdict: outbox.Bury, Reason: outbox.ReasonPermanent, Failure: outbox.Failure{Attempt: 1, Error: "no"}},
		{ID: got[2].ID, Token: got[2].Token, Verdict: outbox.Retry, Delay: time.Hour, Failure: outbox.Failure{Attempt: 1, Error: "busy"}},
	}))
	keyed := func(name string) outbox.Event { return outbox.Event{Name: name, Key: "k"} }
	create(t, s, outbox.Task{Event: keyed("head"), Delay: time.Hour}, outbox.Task{Event: keyed("behind")},
		outbox.Task{Event: named("replaced"), LatestOnly: "l", Delay: time.Hour}, outbox.Task{Event: named("latest"), LatestOnly: "l", Delay: time.Hour},
		outbox.Task{Event: named("unique"), Unique: "u", Delay: time.Hour})
}

// Each thing that can be wrong is found, and named.
func TestStore_Audit_Finds(t *testing.T) {
	first := func(b *bbolt.Bucket) []byte {
		k, _ := b.Cursor().First()
		return append([]byte(nil), k...)
	}
	anID := make([]byte, 16)
	for what, c := range map[string]struct {
		damage func(root *bbolt.Bucket) error
		says   string
	}{
		"a task is gone": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("tasks")).Delete(first(root.Bucket([]byte("tasks"))))
		}, "P5: waiting"},
		"a dead letter is gone": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("dead")).Delete(first(root.Bucket([]byte("dead"))))
		}, "P5: dead"},
		"a value is damaged": {func(root *bbolt.Bucket) error {
			b := root.Bucket([]byte("tasks"))
			v := append([]byte(nil), b.Get(first(b))...)
			v[len(v)/2] ^= 1
			return b.Put(first(b), v)
		}, "checksum"},
		"a schedule is damaged": {func(root *bbolt.Bucket) error {
			b := root.Bucket([]byte("retries"))
			v := append([]byte(nil), b.Get(first(b))...)
			v[0] ^= 2
			return b.Put(first(b), v)
		}, "schedule of task"},
		"a schedule is gone": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("retries")).Delete(first(root.Bucket([]byte("retries"))))
		}, "not when it is due"},
		"a schedule of nothing": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("retries")).Put(anID, nil)
		}, "which does not wait"},
		"a dead letter waits": {func(root *bbolt.Bucket) error {
			b := root.Bucket([]byte("tasks"))
			return root.Bucket([]byte("dead")).Put(first(b), root.Bucket([]byte("dead")).Get(first(root.Bucket([]byte("dead")))))
		}, "dead task"},
		"a place is gone": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("due")).Delete(first(root.Bucket([]byte("due"))))
		}, "is not listed as due"},
		"a place of nothing": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("due")).Put(append(binary.BigEndian.AppendUint64(nil, 1<<63+1), anID...), nil)
		}, "does not wait"},
		"a head is not listed": {func(root *bbolt.Bucket) error {
			k := first(root.Bucket([]byte("keys")))
			id := k[len(k)-16:]
			return root.Bucket([]byte("due")).ForEach(func(k, _ []byte) error {
				if string(k[len(k)-16:]) == string(id) {
					return root.Bucket([]byte("due")).Delete(k)
				}
				return nil
			})
		}, `is the head of key "k"`},
		"a task is not in line": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("keys")).Delete(first(root.Bucket([]byte("keys"))))
		}, "is not in the line of its key"},
		"nothing is in line": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("keys")).Put(append([]byte{0, 1, 'k'}, anID...), nil)
		}, `in the line of key "k", but does not wait`},
		"a key is held by nothing": {func(root *bbolt.Bucket) error {
			return root.Bucket([]byte("sole")).Put([]byte("ux"), anID)
		}, `key "ux" is held by`},
		"a key is held by another": {func(root *bbolt.Bucket) error {
			b := root.Bucket([]byte("sole"))
			return b.Put([]byte("ux"), b.Get([]byte("uu")))
		}, "which has others"},
	} {
		t.Run(what, func(t *testing.T) {
			dir, copied := t.TempDir(), t.TempDir()
			s, err := bolt.Open(dir, quiet)
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			fillAll(t, s)
			require.NoError(t, s.Flush())
			audit(t, s)
			require.NoError(t, s.Update(t.Context(), func(tx *bbolt.Tx) error { return c.damage(tx.Bucket([]byte("goutbox"))) }))
			a, err := s.Audit(t.Context())
			require.ErrorIs(t, err, outbox.ErrCorrupt)
			require.ErrorContains(t, err, c.says)
			require.NotEmpty(t, a.Findings)

			s.Freeze(func() { copyDir(t, dir, copied) })
			r := verify(t, copied)
			require.False(t, r.OK(), "Verify must see it as well")
		})
	}
}

// An audit is of one moment, whatever goes on meanwhile.
func TestStore_Audit_WhileWorking(t *testing.T) {
	s := open(t, t.TempDir(), bolt.WithOverlay(20, 200), bolt.WithSegmentBytes(64<<10))
	stop := make(chan struct{})
	var working sync.WaitGroup
	work := func(f func()) {
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	work(func() { create(t, s, tasks(0, 5)...) })
	work(func() { require.NoError(t, inTx(t, s, nil, tasks(0, 3)...)) })
	work(func() { _ = inTx(t, s, errNo, tasks(0, 3)...) })
	work(func() {
		got := claim(t, s, 20)
		for i := range got {
			require.NoError(t, s.Settle(t.Context(), []outbox.Outcome{{ID: got[i].ID, Token: got[i].Token, Verdict: outbox.Verdict(1 + i%4)}}))
		}
	})
	for audits, end := 0, time.Now().Add(30*time.Second); audits < 100 || stats(t, s).Accepted < 1000; audits++ {
		require.True(t, time.Now().Before(end), "too little was done meanwhile")
		audit(t, s)
	}
	close(stop)
	working.Wait()
}
