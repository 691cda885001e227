package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// childEnv tells this test binary that it is the child of a test, and which.
const childEnv = "GOUTBOX_TEST_CHILD"

// children are the programs that tests run as processes of their own.
var children = map[string]func() error{
	"kill": func() error { return liveAndDie(os.Getenv("GOUTBOX_TEST_DIR"), os.Getenv("GOUTBOX_TEST_LIFE")) },
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childEnv)]; child != nil {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The producers, which accept events in a way of their own each. The name of an event
// is its life, its producer and its number.
const (
	inTransaction = iota
	withKeys
	inPairs
	latestOnly
	plain     // and all above
	producers = 7
)

// liveAndDie accepts and delivers events until it is killed, and says on standard
// output what it does, a line for each event: "n" before it is accepted, "a" when it
// has been, "d" before it is delivered, "x" before it is deleted, "s" when that has
// become durable.
func liveAndDie(dir, life string) error {
	s, err := bolt.Open(dir, quiet, bolt.WithOverlay(500, 1000), bolt.WithSegmentBytes(64<<10))
	if err != nil {
		return err
	}
	failed := make(chan error, 10)
	for p := range producers {
		go func() {
			for i := 0; ; i++ {
				failed <- accept(s, p, fmt.Sprintf("%s-%d-%d", life, p, i))
			}
		}()
	}
	go func() {
		var ended []string
		for i := 1; ; i++ {
			some, err := deliver(s)
			ended = append(ended, some...)
			if err == nil && i%8 == 0 {
				err = s.Sync()
				say("s", ended...)
				ended = nil
			}
			failed <- err
		}
	}()
	go func() {
		for {
			failed <- mourn(s)
		}
	}()
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func say(what string, names ...string) {
	for _, name := range names {
		fmt.Println(what, name)
	}
}

// accept accepts one event, or two.
func accept(s *bolt.Store, producer int, name string) error {
	ctx := context.Background()
	task := outbox.Task{Event: outbox.Event{Name: name, Payload: []byte(strings.Repeat(name, 20))}, MaxAttempts: 1 << 20}
	list := []outbox.Task{task}
	say("n", name)
	var err error
	switch producer {
	case inTransaction:
		err = s.Update(ctx, func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("application"))
			if err != nil {
				return err
			}
			return errors.Join(b.Put([]byte(name), nil), s.Create(bolt.WithTx(ctx, tx), list))
		})
	case inPairs:
		second := task
		second.Name += "b"
		list = append(list, second)
		say("n", second.Name)
		err = s.Create(ctx, list)
	default:
		switch producer {
		case withKeys:
			list[0].Key = keyOf(name)
		case latestOnly:
			list[0].LatestOnly = "latest"
		}
		err = s.Create(ctx, list)
	}
	if err != nil {
		return err
	}
	for _, t := range list {
		say("a", t.Name)
	}
	return nil
}

// keyOf is the key of an event of the producer withKeys: one of two, so that a retry
// holds others up.
func keyOf(name string) string { return fmt.Sprint(name[len(name)-1] % 2) }

// deliver delivers what is due, and returns what it has; now and then it fails, and
// gives up.
func deliver(s *bolt.Store) (ended []string, err error) {
	c, err := s.Claim(context.Background(), outbox.ClaimRequest{Max: 50, Lease: time.Minute})
	if err != nil || len(c.Tasks) == 0 {
		time.Sleep(time.Millisecond)
		return nil, err
	}
	var outcomes []outbox.Outcome
	for _, t := range c.Tasks {
		o := outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Done}
		switch n := rand.N(20); {
		case n == 0:
			o.Verdict, o.Delay = outbox.Retry, 5*time.Millisecond
		case n == 1:
			o.Verdict = outbox.Release
		case n == 2 && t.Key == "": // one that is dead keeps nobody waiting
			o.Verdict, o.Reason = outbox.Bury, outbox.ReasonPermanent
		default:
			say("d", t.Name)
			ended = append(ended, t.Name)
		}
		outcomes = append(outcomes, o)
	}
	return ended, s.Settle(context.Background(), outcomes)
}

// mourn requeues one dead letter and deletes another.
func mourn(s *bolt.Store) error {
	ctx := context.Background()
	requeue := true
	for t, err := range s.Tasks(ctx, outbox.Filter{States: []outbox.State{outbox.Dead}, Limit: 2}) {
		if err != nil {
			return err
		}
		if requeue {
			_, err = s.Requeue(ctx, t.ID)
		} else {
			say("x", t.Name)
			if _, err = s.Delete(ctx, t.ID); err == nil {
				say("s", t.Name)
			}
		}
		if err != nil && !errors.Is(err, outbox.ErrDuplicate) && !errors.Is(err, outbox.ErrNotFound) {
			return err
		}
		requeue = !requeue
	}
	time.Sleep(time.Millisecond)
	return nil
}

// diary is what the lives of a store have said.
type diary struct {
	begun, accepted, delivered, ended map[string]bool
	keyed                             map[string][]string // accepted, in order, and not known to be delivered
	latest                            string              // the last event with LatestOnly that was begun
}

func (d *diary) listen(t *testing.T, line string) {
	what, name, _ := strings.Cut(line, " ")
	_, rest, _ := strings.Cut(name, "-")
	kind, _, _ := strings.Cut(rest, "-")
	producer, err := strconv.Atoi(kind)
	require.NoError(t, err, "child said %q", line)
	switch what {
	case "n":
		d.begun[name] = true
		if producer == latestOnly {
			d.latest = name
		}
	case "a":
		d.accepted[name] = true
		if producer == withKeys && !d.delivered[name] {
			d.keyed[keyOf(name)] = append(d.keyed[keyOf(name)], name)
		}
	case "d":
		require.True(t, d.begun[name], "invented: %s", name)
		require.False(t, d.ended[name], "P3: delivered again, though that was durable: %s", name)
		d.delivered[name] = true
		if producer == withKeys {
			d.order(t, name)
		}
	case "x":
		d.delivered[name] = true
	case "s":
		d.ended[name] = true
	default:
		t.Fatalf("child said %q", line)
	}
}

// order holds the delivery of an event against its key: all that were accepted before
// it have been delivered (P4).
func (d *diary) order(t *testing.T, name string) {
	waiting := d.keyed[keyOf(name)]
	for len(waiting) > 0 && d.delivered[waiting[0]] {
		waiting = waiting[1:]
	}
	d.keyed[keyOf(name)] = waiting
	for _, other := range waiting {
		require.True(t, d.delivered[other] || !before(t, other, name), "P4: %s was delivered before %s", name, other)
	}
}

// before reports whether a was accepted before b, of the same producer.
func before(t *testing.T, a, b string) bool {
	number := func(name string) (life, n int) {
		parts := strings.Split(name, "-")
		life, err := strconv.Atoi(parts[0])
		require.NoError(t, err)
		n, err = strconv.Atoi(parts[2])
		require.NoError(t, err)
		return life, n
	}
	lifeA, a1 := number(a)
	lifeB, b1 := number(b)
	return lifeA < lifeB || lifeA == lifeB && a1 < b1
}

// TestKill kills a process again and again in the midst of its work. Whatever it
// has said was accepted must have been delivered, or still be there (P1); what was
// durably delivered does not come back (P3); keys keep their order (P4). The page
// cache survives a SIGKILL, so this says nothing of power cuts.
func TestKill(t *testing.T) {
	lives := 8
	if os.Getenv("GOUTBOX_TORTURE") != "" {
		lives = 150
	}
	dir := t.TempDir()
	d := diary{
		begun: map[string]bool{}, accepted: map[string]bool{}, delivered: map[string]bool{}, ended: map[string]bool{},
		keyed: map[string][]string{},
	}
	for life := range lives {
		before := len(d.accepted)
		for _, line := range runAndKill(t, dir, life, time.Duration(20+rand.N(250))*time.Millisecond) {
			d.listen(t, line)
		}
		require.Greater(t, len(d.accepted), before, "life %d did nothing", life)
	}
	s := open(t, dir)
	audit(t, s)
	d.check(t, s)

	for got := claim(t, s, 1000); len(got) > 0; got = claim(t, s, 1000) {
		done(t, s, got...)
	}
	require.NoError(t, s.Close())
	s = open(t, dir)
	require.Zero(t, stats(t, s).Pending)
	require.Len(t, names(t, s), int(stats(t, s).Dead))
}

// check holds what is there against what was said.
func (d *diary) check(t *testing.T, s *bolt.Store) {
	there := map[string]bool{}
	for _, name := range names(t, s) {
		require.False(t, there[name], "there twice: %s", name)
		require.True(t, d.begun[name], "invented: %s", name)
		require.False(t, d.ended[name], "P3: it came back: %s", name)
		there[name] = true
	}
	for name := range d.accepted {
		replaced := strings.Contains(name, fmt.Sprintf("-%d-", latestOnly)) && name != d.latest
		require.True(t, there[name] || d.delivered[name] || replaced, "P1: lost: %s", name)
	}
	err := s.Update(t.Context(), func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("application"))
		for name := range d.begun {
			if strings.Contains(name, fmt.Sprintf("-%d-", inTransaction)) {
				own := b.Get([]byte(name)) != nil
				require.Equal(t, own, there[name] || d.delivered[name], "the event and the application's own entry, of %s", name)
				require.True(t, own || !d.accepted[name], "P1: lost: %s", name)
			}
		}
		return nil
	})
	require.NoError(t, err)
	st := stats(t, s)
	require.EqualValues(t, len(there), st.Pending+st.Dead)
	require.GreaterOrEqual(t, st.Accepted, uint64(len(d.accepted)))
	t.Logf("accepted %d, delivered %d, waiting %d, dead %d", len(d.accepted), len(d.delivered), st.Pending, st.Dead)
}

// runAndKill starts a child, lets it live for a while after its first word, and
// kills it. It returns the whole lines that the child has said.
func runAndKill(t *testing.T, dir string, life int, span time.Duration) []string {
	t.Helper()
	child := childProcess(t, "kill", "GOUTBOX_TEST_DIR="+dir, fmt.Sprintf("GOUTBOX_TEST_LIFE=%d", life))
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var lines []string
	var once sync.Once
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // what is left of a line was not said
		}
		lines = append(lines, strings.TrimSpace(line))
		once.Do(func() { time.AfterFunc(span, func() { _ = child.Process.Kill() }) })
	}
	require.Error(t, child.Wait(), "it was killed")
	return lines
}

// childProcess is a child that is not started yet.
func childProcess(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(exe)
	child.Env = append(append(os.Environ(), childEnv+"="+name), env...)
	child.Stderr = os.Stderr
	return child
}
