package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/bolt"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// killDir tells this test binary that it is the child of TestKill, and where its
// store is.
const killDir = "GOUTBOX_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Println("error:", liveAndDie(dir, os.Getenv("GOUTBOX_TEST_KILL_LIFE")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// liveAndDie accepts and delivers events until it is killed, and says of each on
// standard output when it has been accepted ("a") and when it is being delivered
// ("d").
func liveAndDie(dir, life string) error {
	s, err := bolt.Open(dir, quiet, bolt.WithOverlay(500, 1000), bolt.WithSegmentBytes(64<<10))
	if err != nil {
		return err
	}
	failed := make(chan error, 10)
	for p := range 6 {
		go func() {
			for i := 0; ; i++ {
				failed <- accept(s, p, fmt.Sprintf("%s-%d-%d", life, p, i))
			}
		}()
	}
	go func() {
		for {
			failed <- deliver(s)
		}
	}()
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// accept accepts one event, every producer in a way of its own.
func accept(s *bolt.Store, producer int, name string) error {
	task := outbox.Task{Event: outbox.Event{Name: name, Payload: []byte(strings.Repeat(name, 20))}, MaxAttempts: 1 << 20}
	list := []outbox.Task{task}
	var err error
	switch producer {
	case 0:
		err = s.Update(context.Background(), func(tx *bbolt.Tx) error {
			return s.Create(bolt.WithTx(context.Background(), tx), list)
		})
	case 1:
		list[0].Key = name[len(name)-1:]
		err = s.Create(context.Background(), list)
	case 2:
		second := task
		second.Name += "b"
		list = append(list, second)
		err = s.Create(context.Background(), list)
	default:
		err = s.Create(context.Background(), list)
	}
	if err != nil {
		return err
	}
	for _, t := range list {
		fmt.Println("a", t.Name)
	}
	return nil
}

// deliver delivers what is due; now and then it fails.
func deliver(s *bolt.Store) error {
	c, err := s.Claim(context.Background(), outbox.ClaimRequest{Max: 50, Lease: time.Minute})
	if err != nil || len(c.Tasks) == 0 {
		time.Sleep(time.Millisecond)
		return err
	}
	var outcomes []outbox.Outcome
	for _, t := range c.Tasks {
		o := outbox.Outcome{ID: t.ID, Token: t.Token, Verdict: outbox.Done}
		if rand.N(10) == 0 {
			o.Verdict, o.Delay = outbox.Retry, time.Millisecond
		} else {
			fmt.Println("d", t.Name)
		}
		outcomes = append(outcomes, o)
	}
	return s.Settle(context.Background(), outcomes)
}

// TestKill kills a process again and again in the midst of its work. Whatever it
// has said was accepted must have been delivered, or still be there: P1. The page
// cache survives a SIGKILL, so this says nothing of power cuts.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	accepted, delivered := map[string]bool{}, map[string]bool{}
	for life := range 8 {
		lines := runAndKill(t, dir, life, time.Duration(20+rand.N(250))*time.Millisecond)
		for _, line := range lines {
			kind, name, _ := strings.Cut(line, " ")
			switch kind {
			case "a":
				accepted[name] = true
			case "d":
				delivered[name] = true
			default:
				t.Fatalf("child said %q", line)
			}
		}
	}
	s := open(t, dir)
	audit(t, s)
	waiting := map[string]bool{}
	for _, name := range names(t, s) {
		require.False(t, waiting[name], "%s is there twice", name)
		waiting[name] = true
	}
	for name := range accepted {
		require.True(t, waiting[name] || delivered[name], "lost: %s", name)
	}
	st := stats(t, s)
	require.EqualValues(t, len(waiting), st.Pending)
	require.GreaterOrEqual(t, st.Accepted, uint64(len(accepted)))
	t.Logf("accepted %d, delivered %d, waiting %d", len(accepted), len(delivered), len(waiting))

	for got := claim(t, s, 1000); len(got) > 0; got = claim(t, s, 1000) {
		done(t, s, got...)
	}
	require.NoError(t, s.Close())
	s = open(t, dir)
	require.Zero(t, stats(t, s).Pending)
	require.Empty(t, names(t, s))
}

// runAndKill starts a child, lets it live for a while after its first word, and
// kills it. It returns the whole lines that the child has said.
func runAndKill(t *testing.T, dir string, life int, span time.Duration) []string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("GOUTBOX_TEST_KILL_LIFE=%d", life))
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
