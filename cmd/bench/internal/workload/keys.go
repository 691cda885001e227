package workload

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// keyCount is how many keys there are, as near as the producers allow: each has keys of
// its own, for only then does it know the order in which events of a key were accepted.
const keyCount = 1000

// Keys is a pipeline that keeps an order: a sensor, an account, an order is a key.
var Keys = Workload{
	Name: "keys",
	About: "pipeline with 1,000 keys, each producer's own; every key's events must be published one at a time, in the order in which they were accepted, and none left out; " +
		"the rest is checked as in pipeline",
	Needs:   subject.Keys,
	Cases:   some(64),
	Write:   func(producers int) int { return producers },
	Measure: measureKeys,
	Columns: Pipeline.Columns,
}

func measureKeys(t *Trial) (report.Sample, error) {
	k := newLanes(t.Producers, max(keyCount/t.Producers, 1))
	return flow(t, flowing{
		send: func(q *opened) load.Send {
			enqueue := q.Queue.(subject.Keyer).EnqueueKey
			return func(ctx context.Context, payloads [][]byte) error {
				return enqueue(ctx, k.names[k.of(load.Peek(payloads[0]))], payloads[0])
			}
		},
		see:   k.see,
		check: k.check,
	})
}

// lanes checks the order within each key. Event n of a producer has its key n modulo
// its number of keys, so the one before it in its key is known.
type lanes struct {
	each  int // keys of a producer
	names []string
	next  []atomic.Uint64 // by key: the sequence that has to come next
	busy  []atomic.Bool   // by key: one is being published
	bad   atomic.Pointer[error]
}

func newLanes(producers, each int) *lanes {
	n := producers * each
	l := &lanes{each: each, names: make([]string, n), next: make([]atomic.Uint64, n), busy: make([]atomic.Bool, n)}
	for i := range l.names {
		l.names[i] = "key-" + strconv.Itoa(i)
		l.next[i].Store(uint64(i % each))
	}
	return l
}

func (l *lanes) of(producer int, seq uint64) int {
	return producer*l.each + int(seq%uint64(l.each))
}

// see is called for as long as an event is being published.
func (l *lanes) see(m load.Mark) {
	key := l.of(m.Producer, m.Seq)
	if l.busy[key].Swap(true) {
		l.fail(fmt.Errorf("two events of %s are published at a time", l.names[key]))
	}
	if want := l.next[key].Load(); want != m.Seq {
		l.fail(fmt.Errorf("of %s, event %d of producer %d was published when %d was next", l.names[key], m.Seq, m.Producer, want))
	}
	l.next[key].Store(m.Seq + uint64(l.each))
	l.busy[key].Store(false)
}

func (l *lanes) fail(err error) { l.bad.CompareAndSwap(nil, &err) }

func (l *lanes) check() error {
	if err := l.bad.Load(); err != nil {
		return fmt.Errorf("check of the order: %w", *err)
	}
	return nil
}
