package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// diary is an observer that writes down what it hears.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last take.
func (d *diary) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

func (d *diary) observer() outbox.Observer {
	heard := func(hook string) func(outbox.Attempt) {
		return func(a outbox.Attempt) {
			d.add("%s %s %d took=%s verdict=%d reason=%q delay=%s err=%v", hook, a.Task.Name, a.Task.Attempt, a.Took, a.Verdict, a.Reason, a.Delay, a.Err)
		}
	}
	return outbox.Observer{
		Enqueued:  func(_ context.Context, t outbox.Task) { d.add("enqueued %s %s", t.Name, t.Payload) },
		Attempt:   func(a outbox.Attempt) { d.add("attempt %s", a.Task.Name) },
		Delivered: heard("delivered"),
		Retried:   heard("retried"),
		Dead:      heard("dead"),
		Dropped:   func(r outbox.Reason, n uint64) { d.add("dropped %d %s", n, r) },
		Buried:    func(r outbox.Reason, n uint64) { d.add("buried %d %s", n, r) },
		Gate:      func(to string, s outbox.GateState, err error) { d.add("gate %q %s %v", to, s, err) },
	}
}

func TestObserver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		f := setup(t, outbox.WithObserver(d.observer()))
		f.start(func(_ context.Context, e outbox.Event) error {
			time.Sleep(2 * time.Second)
			switch {
			case e.Name == "never":
				return outbox.Permanent(errRefused)
			case e.Name == "again" && e.Attempt == 1:
				return errRefused
			}
			return nil
		})
		_, err := f.Enqueue(t.Context(), "fine", 7)
		require.NoError(t, err)
		require.Equal(t, []string{"enqueued fine 7"}, d.take())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"attempt fine", `delivered fine 1 took=2s verdict=1 reason="" delay=0s err=<nil>`}, d.take())
		f.enqueue("again")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"enqueued again null", "attempt again", `retried again 1 took=2s verdict=2 reason="" delay=1s err=refused`,
			"attempt again", `delivered again 2 took=2s verdict=1 reason="" delay=0s err=<nil>`}, d.take())
		f.enqueue("never")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"enqueued never null", "attempt never", `dead never 1 took=2s verdict=4 reason="permanent" delay=0s err=refused`}, d.take())
	})
}

func TestObserver_Drops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		f := setup(t, outbox.WithObserver(outbox.Observer{Dropped: d.observer().Dropped}))
		f.enqueueMany("expires", 3, outbox.WithTTL(time.Second))
		f.enqueue("a", outbox.WithLatestOnly("k"))
		f.enqueue("b", outbox.WithLatestOnly("k"))
		require.Equal(t, []string{"dropped 1 coalesced"}, d.take())
		id := f.enqueue("deleted")
		_, err := f.Delete(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, []string{"dropped 1 deleted"}, d.take())
		time.Sleep(time.Minute)
		_, err = f.Drain(t.Context(), answers(nil))
		require.NoError(t, err)
		require.Equal(t, []string{"dropped 3 expired"}, d.take())
	})
}

// Dead and Buried together hear of every dead letter, and of each once; which the store has
// made by itself, a listing says.
func TestObserver_Buried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		all := d.observer()
		f := setup(t, outbox.WithConcurrency(1), outbox.WithObserver(outbox.Observer{Dead: all.Dead, Buried: all.Buried}))
		key := outbox.WithKey("k")
		f.enqueue("first", key, outbox.WithKeyPolicy(outbox.ParkWholeKey))
		f.enqueueMany("behind", 3, key)
		f.start(answers(outbox.Permanent(errRefused)))
		require.Equal(t, []string{`dead first 1 took=0s verdict=4 reason="permanent" delay=0s err=refused`, "buried 3 key parked"}, d.take())
		f.enqueue("later", key)
		require.Equal(t, []string{"buried 1 key parked"}, d.take())
		require.EqualValues(t, 5, f.stats().Dead)
		var names []string
		for task, err := range f.Tasks(t.Context(), outbox.Filter{States: []outbox.State{outbox.Dead}, Reason: outbox.ReasonKeyParked}) {
			require.NoError(t, err)
			names = append(names, task.Name)
		}
		require.Equal(t, []string{"behind", "behind", "behind", "later"}, names)
	})
}

// An outage costs two lines, however long it is.
func TestObserver_Gate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		f := setup(t, outbox.WithConcurrency(1), outbox.WithObserver(outbox.Observer{Gate: d.observer().Gate}))
		down := outbox.Unavailable(errRefused)
		f.start(answers(down, down, down, down, down, nil))
		f.enqueueMany("e", 5)
		time.Sleep(time.Hour)
		got := d.take()
		require.Len(t, got, 2)
		require.Equal(t, `gate "" shut refused`, got[0])
		require.Regexp(t, `gate "" (open|ramping) <nil>`, got[1])
	})
}

// What is released is an attempt too, and nothing else.
func TestObserver_Released(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		f := setup(t, outbox.WithObserver(d.observer()))
		f.enqueue("e")
		d.take()
		_, err := f.Drain(t.Context(), answers(syscall.ECONNREFUSED))
		require.ErrorIs(t, err, outbox.ErrUnavailable)
		require.Equal(t, []string{"attempt e"}, d.take())
	})
}

func TestObserver_Do(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d diary
		f := setup(t, outbox.WithObserver(d.observer()))
		slow := func(err error) outbox.Publisher {
			return func(context.Context, outbox.Event) error { time.Sleep(time.Second); return err }
		}
		require.NoError(t, f.Do(t.Context(), "a", nil, slow(nil)))
		require.Equal(t, []string{"enqueued a null", "attempt a", `delivered a 1 took=1s verdict=1 reason="" delay=0s err=<nil>`}, d.take())
		require.NoError(t, f.Do(t.Context(), "b", nil, slow(nil), outbox.PublishFirst()))
		require.Equal(t, []string{"attempt b", `delivered b 0 took=1s verdict=1 reason="" delay=0s err=<nil>`}, d.take(), "it was never stored")
		require.NoError(t, f.Do(t.Context(), "c", nil, slow(errRefused), outbox.PublishFirst()))
		require.Equal(t, []string{"enqueued c null", "attempt c", `retried c 1 took=1s verdict=2 reason="" delay=1s err=refused`}, d.take())
	})
}

// Each event of a batch is told of, with the whole task.
func TestObserver_Batch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []outbox.Attempt
		f := setup(t, outbox.WithObserver(outbox.Observer{Dead: func(a outbox.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, a)
		}}))
		f.startBatch(func(events []outbox.Event) []error {
			errs := make([]error, len(events))
			errs[1] = outbox.Permanent(errRefused)
			return errs
		})
		_, err := f.EnqueueBatch(t.Context(), []outbox.Event{
			{Name: "a", Payload: []byte("1")}, {Name: "b", Payload: []byte("2"), Headers: map[string]string{"h": "v"}}, {Name: "c"}})
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, got, 1)
		require.Equal(t, "b", got[0].Task.Name)
		require.Equal(t, []byte("2"), got[0].Task.Payload, "kept after the call, it is still what it was")
		require.Equal(t, map[string]string{"h": "v"}, got[0].Task.Headers)
		require.ErrorIs(t, got[0].Err, errRefused)
	})
}

// Whatever a hook does, the events do not notice.
func TestObserver_Contained(t *testing.T) {
	hooks := reflect.TypeFor[outbox.Observer]()
	for _, c := range []struct {
		name string
		does func()
		says string
	}{
		{"panics", func() { panic("boom") }, "panicked: boom"},
		{"ends its goroutine", runtime.Goexit, "ended its goroutine"},
		{"blocks", func() { time.Sleep(time.Hour) }, "did not return within 5s"},
	} {
		for i := range hooks.NumField() {
			hook := hooks.Field(i).Name
			if hook == "Sync" { // this store has none
				continue
			}
			t.Run(hook+" "+c.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var calls atomic.Int64
					var o outbox.Observer
					reflect.ValueOf(&o).Elem().Field(i).Set(reflect.MakeFunc(hooks.Field(i).Type, func([]reflect.Value) []reflect.Value {
						calls.Add(1)
						c.does()
						return nil
					}))
					f := setup(t, outbox.WithConcurrency(1), outbox.WithObserver(o))
					down := outbox.Unavailable(errRefused)
					f.start(answers(down, down, down, errRefused, outbox.Permanent(errRefused), outbox.Permanent(errRefused), nil))
					for range 2 {
						f.enqueueMany("expires", 2, outbox.WithDelay(time.Hour), outbox.WithTTL(time.Second))
						f.enqueueMany("e", 5)
						time.Sleep(time.Minute)
						f.parked()
						synctest.Wait()
					}
					time.Sleep(2 * time.Hour) // what blocks has ended
					st := f.stats()
					require.Equal(t, uint64(8), st.Delivered)
					require.Equal(t, uint64(6), st.Dead)
					require.Equal(t, uint64(4), st.Dropped)
					require.EqualValues(t, 1, calls.Load(), "it is switched off")
					require.Contains(t, f.log.at(slog.LevelError, "hook", "error"),
						"outbox: observer failed, not called any more hook="+hook+" error="+c.says)
					lines := slices.DeleteFunc(f.log.at(slog.LevelError), func(s string) bool { return s == "outbox: event is dead" })
					require.Len(t, lines, 1, "logged once")
				})
			})
		}
	}
}

// parked has the store bury an event behind one that was buried by nobody who is observed.
func (f *fixture) parked() {
	f.t.Helper()
	key := time.Now().String()
	tasks := []outbox.Task{{Event: outbox.Event{Name: "parks", Key: key}, MaxAttempts: 1, KeyPolicy: outbox.ParkWholeKey, Lease: time.Hour}}
	require.NoError(f.t, f.store.Create(context.Background(), tasks))
	require.NoError(f.t, f.store.Store.Settle(context.Background(), []outbox.Outcome{
		{ID: tasks[0].ID, Token: tasks[0].Token, Verdict: outbox.Bury, Reason: outbox.ReasonPermanent}}))
	f.enqueue("behind", outbox.WithKey(key))
}

// Other observers, and the other hooks of the same, go on.
func TestObserver_OthersGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var first, second diary
		bad := first.observer()
		bad.Attempt = func(outbox.Attempt) { panic("boom") }
		f := setup(t, outbox.WithObserver(bad), outbox.WithObserver(second.observer()))
		f.start(answers(nil))
		f.enqueue("e")
		require.Len(t, first.take(), 2)
		require.Len(t, second.take(), 3)
	})
}

// A slow hook slows the worker that has called it, and nobody else.
func TestObserver_Slow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := setup(t, outbox.WithConcurrency(2), outbox.WithObserver(outbox.Observer{
			Delivered: func(a outbox.Attempt) {
				if a.Task.Name == "slow" {
					time.Sleep(4 * time.Second)
				}
			},
		}))
		r := f.receiver(nil)
		f.start(r.publish)
		f.enqueue("slow")
		f.enqueueMany("quick", 10)
		time.Sleep(time.Second)
		require.Len(t, r.calls(), 11)
		require.Equal(t, uint64(10), f.stats().Delivered)
		time.Sleep(4 * time.Second)
		require.Equal(t, uint64(11), f.stats().Delivered)
		require.Empty(t, f.log.at(slog.LevelError))
	})
}

// A hook may call the outbox: an alarm for a dead letter is an event itself.
func TestObserver_CallsTheOutbox(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var f *fixture
		f = setup(t, outbox.WithConcurrency(1), outbox.WithObserver(outbox.Observer{
			Dead: func(a outbox.Attempt) {
				f.enqueue("alarm", outbox.WithHeader("dead", a.Task.ID.String()))
				f.stats()
			},
			Dropped: func(outbox.Reason, uint64) { f.stats(); f.Wake() },
			Gate:    func(string, outbox.GateState, error) { f.Destinations(); f.Pause(); f.Resume() },
		}))
		r := f.receiver(func(_ context.Context, e outbox.Event) error {
			if e.Name == "bad" {
				return outbox.Permanent(errRefused)
			}
			return nil
		})
		f.start(r.publish)
		id := f.enqueue("bad")
		f.enqueue("old", outbox.WithTTL(time.Nanosecond), outbox.WithDelay(time.Second))
		time.Sleep(time.Minute)
		require.Equal(t, "bad alarm", r.names())
		require.Equal(t, id.String(), r.calls()[1].event.Headers["dead"])
	})
}
